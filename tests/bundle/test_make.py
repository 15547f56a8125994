"""What a bundle cannot be made of, what is not replaced, and which members it has."""

import json
import logging
import shutil

import pytest
import yaml

from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.errors import CacheError, DataError, OutputExistsError
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.fusion.members import run_hash
from audiomos_cache.fusion.record import load_fusion
from audiomos_cache.hashes import write_recorded
from audiomos_cache.registry import register
from audiomos_cache.runs import read_run_config
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from audiomos_cache.training.train_heads import train_heads
from tests.support.bundle import refusal
from tests.support.training import job, make_clips


def changed_run(run, folder, change):
    """A copy of a run that says otherwise of itself."""
    copy = shutil.copytree(run, folder / run.name)
    config = read_run_config(copy)
    change(config)
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    return copy


def test_runs_may_lie_elsewhere_in_any_order_under_any_name(made, ridge_bundle, tmp_path):
    for name, run in zip("ba", made.runs, strict=True):
        shutil.copytree(run, tmp_path / "moved" / name)
    make_bundle([tmp_path / "moved"], tmp_path / "model", made.fused("ridge"), check=False)
    moved, expected = load_bundle(str(tmp_path / "model")), load_bundle(str(ridge_bundle))
    assert [member.name for member in moved.members] == ["b", "a"], "in the fusion's order, under their folders' names"
    assert moved.fusion.to_json() == expected.fusion.to_json()


@pytest.mark.usefixtures("fresh_registry")
def test_a_fusion_of_a_script_warns_where_it_is_used_to_make_something(made, tmp_path, caplog):
    own = type("Own", (MeanFusion,), {"__module__": "__main__"})
    register("fusion", "own")(own)
    said = "fusion own: Own is defined in __main__; move it to a file to use the run elsewhere"
    fuse(made.runs, out=tmp_path / "fused", method="own")
    assert caplog.messages.count(said) == 1
    caplog.clear()
    made_bundle = make_bundle(made.runs, tmp_path / "model", tmp_path / "fused", check=False)
    assert caplog.messages.count(said) == 1
    [part] = made_bundle.manifest.parts
    assert (part.kind, part.name, part.module, part.version) == ("fusion", "own", "__main__", None)
    assert "parts" not in json.loads((tmp_path / "model" / "fusion.json").read_bytes()), "bundle.yaml has them"
    assert type(load_bundle(str(tmp_path / "model")).fusion) is own


def test_names_that_are_alike_or_odd_still_name_files(made, tmp_path):
    runs = [tmp_path / "x" / "My run", tmp_path / "y" / "my run", tmp_path / "z" / "My_run"]
    jobs = [job("pooling-dist", seed, "training.max_epochs=1") for seed in (1, 2, 3)]
    results = train_heads(jobs, made.cache, tmp_path / "runs")
    for run, result in zip(runs, results, strict=True):
        shutil.copytree(result.folder, run)
    fuse(runs, out=tmp_path / "fused", method="mean")
    found = make_bundle(runs, tmp_path / "model", tmp_path / "fused", check=False)
    assert [member.file for member in found.manifest.members] == [
        "heads/My_run.safetensors",
        "heads/my_run-loss.safetensors",
        "heads/My_run-2.safetensors",
    ]


def test_a_head_that_mixes_layers(tmp_path):
    audio, text = FakeAudioEncoder(layers=(0, 1)), FakeTextEncoder()
    for seed, split in enumerate(("train", "dev", "eval")):
        extract_split(make_clips(tmp_path, split, 8, seed), tmp_path / "cache", audio, text, ExtractionOptions(1.5))
    mixing = job("pooling-dist", 1, "layers=weighted", "training.max_epochs=1")
    [result] = train_heads([mixing], tmp_path / "cache", tmp_path / "runs")
    make_bundle([result.folder], tmp_path / "model", check=False)
    [member] = load_bundle(str(tmp_path / "model")).members
    assert member.layers == (0, 1)
    assert member.head.layers.weight.shape == (2,)


def test_several_runs_and_no_fusion(made, tmp_path):
    assert refusal(made.runs, None, tmp_path / "model") == (
        "2 runs and no fusion of them, expected one; fuse them, and give --fusion"
    )


def test_files_instead_of_runs(made, tmp_path):
    file = made.runs[0] / "predictions" / "dev.loss.jsonl"
    assert refusal([file], None, tmp_path / "model") == (
        f"files, which have no head to bundle: {file}; give the runs that made them"
    )


def test_a_fusion_of_files_that_no_run_made(made, tmp_path):
    files = [shutil.copy(run / "predictions" / "eval.loss.jsonl", tmp_path / f"{run.name}.jsonl") for run in made.runs]
    fuse(files, out=tmp_path / "fused", method="mean")
    assert refusal(made.runs, tmp_path / "fused", tmp_path / "model") == (
        f"{tmp_path / 'fused'}: of files that no run made: {files[0]}, {files[1]}, expected members that have a head; "
        "fuse runs"
    )


def test_a_missing_run(made, tmp_path):
    assert refusal(made.runs[:1], made.fused("mean"), tmp_path / "model", DataError) == (
        f"not the members that were fused: missing: {made.runs[1]}; give those that the fusion was made of"
    )


def test_no_run(made, tmp_path):
    (tmp_path / "empty").mkdir()
    for run, found in (
        (tmp_path / "nowhere", "contains no config.yaml, so it is not a run"),
        (tmp_path / "empty", "no config.yaml in it, nor in a folder in it, so no run"),
    ):
        message = refusal([*made.runs, run], made.fused("mean"), tmp_path / "model", DataError)
        assert message == f"{run}: {found}; train-head makes runs"


def test_no_fusion_in_the_folder(made, tmp_path):
    found = refusal(made.runs, made.runs[0], tmp_path / "model", DataError)
    assert found == f"{made.runs[0]}: no fusion.json in it, so not a fusion; fuse makes fusions"


def test_a_run_that_computes_as_the_published_code(made, tmp_path):
    run = changed_run(
        made.runs[1],
        tmp_path,
        lambda config: config["head"].update(
            compat="upstream", temporal=config["head"]["temporal"] | {"kind": "transformer"}
        ),
    )
    assert refusal([run], None, tmp_path / "model") == (
        f"{run}: computes as the published code does (compat: upstream), where a clip's score depends on its batch, "
        "expected compat: none; train the head again without it"
    )


def test_a_run_that_does_not_know_its_features(made, tmp_path):
    run = changed_run(made.runs[0], tmp_path, lambda config: config.update(fingerprint_fields=None))
    assert refusal([run], None, tmp_path / "model") == (
        f"{run}: does not record which features it was trained on, expected their fingerprint and layers; train the "
        "head again"
    )


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("encoders", "does not record which audio encoder it was trained with (KeyError('encoders'))"),
        ("data", "does not record what it was trained on and with (KeyError('data'))"),
        ("versions", "does not record what it was trained on and with (KeyError('versions'))"),
    ],
)
def test_a_run_that_does_not_say_enough(made, tmp_path, key, found):
    run = changed_run(made.runs[0], tmp_path, lambda config: config.pop(key))
    assert refusal([run], None, tmp_path / "model") == f"{run / 'config.yaml'}: {found}; train the head again"


def test_a_run_with_values_that_no_run_has(made, tmp_path):
    def change(config):
        config["data"]["dev"]["labels_xxh3_128"] = "none"
        config["versions"]["torch"] = 2.1

    run = changed_run(made.runs[0], tmp_path, change)
    assert refusal([run], None, tmp_path / "model") == (
        f"{run}: members.0.dev.labels_xxh3_128: 'none': string should match pattern '^[0-9a-f]{{32}}$'; "
        "members.0.versions.torch: 2.1: input should be a valid string; train the heads again"
    )


def test_runs_of_different_fingerprints(made, tmp_path):
    def change(config):
        config["fingerprint_fields"]["pad_to_s"] = 30.0

    other = changed_run(made.runs[1], tmp_path, change)
    files = [run / "predictions" / "eval.loss.jsonl" for run in (made.runs[0], other)]
    with pytest.raises(CacheError):  # fuse refuses them too
        fuse(files, out=tmp_path / "fused", method="mean")
    fused = shutil.copytree(made.fused("mean"), tmp_path / "fused")
    record = (fused / "fusion.json").read_text()
    (fused / "fusion.json").write_text(record.replace(run_hash(made.runs[1], "loss"), run_hash(other, "loss")))
    found = refusal([made.runs[0], other], fused, tmp_path / "model", CacheError).splitlines()[0]
    assert found.startswith(f"{other}: fingerprint ")
    assert found.endswith(
        f"first difference: pad_to_s is 30.0, expected 1.5; bundle runs of one cache only, as {made.runs[0]}"
    )


def test_weights_that_are_not_the_runs(made, tmp_path):
    run = shutil.copytree(made.runs[0], tmp_path / "run")
    write_recorded(run, "best-loss.safetensors", (made.runs[1] / "best-loss.safetensors").read_bytes())
    found = refusal([run], None, tmp_path / "model", DataError)
    assert found.startswith(f"{run / 'best-loss.safetensors'}: not the weights of this run's head: ")


def test_nothing_is_replaced_unasked(made, bundle):
    before = (bundle / "bundle.yaml").read_bytes()
    found = refusal(made.runs, made.fused("mean"), bundle, OutputExistsError)
    assert found == f"{bundle}: exists already; give another --out, or --overwrite"
    assert (bundle / "bundle.yaml").read_bytes() == before


def test_a_bundle_replaces_a_bundle_when_asked_to(made, bundle):
    made_now = make_bundle(made.runs[:1], bundle, overwrite=True, check=False)
    assert load_bundle(str(bundle)).digest == made_now.digest
    assert [path.name for path in (bundle / "heads").iterdir()] == ["pooling-dist-seed1.safetensors"]


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "heads/notes.txt", "heads/x.pt", "heads/old/x.safetensors", "old/heads/x.safetensors", ".git/config"],
)
def test_what_no_bundle_has_is_not_replaced(made, bundle, name):
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("ours")
    assert refusal(made.runs[:1], None, bundle, OutputExistsError, overwrite=True) == (
        f"{bundle}: holds {name}, which is not part of a bundle and would be lost; give another --out"
    )


def test_a_folder_without_a_bundle_is_not_replaced(made, tmp_path):
    out = tmp_path / "project"
    out.mkdir()
    (out / "README.md").write_text("ours")
    assert "holds README.md, which is not part of a bundle" in refusal(
        made.runs[:1], None, out, OutputExistsError, overwrite=True
    )
    assert refusal(made.runs[:1], None, out, OutputExistsError) == (
        f"{out}: holds README.md, which is not part of a bundle and would be lost; give another --out"
    )


def test_a_link_in_the_folder_is_not_lost(made, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "data").symlink_to(made.folder)
    assert "holds data" in refusal(made.runs[:1], None, out, OutputExistsError)


def test_a_file_in_the_place_of_the_folder(made, tmp_path):
    (tmp_path / "model").write_text("ours")
    assert refusal(made.runs[:1], None, tmp_path / "model", OutputExistsError, overwrite=True) == (
        f"{tmp_path / 'model'}: is a file, expected a folder to make; give another --out"
    )


def test_an_encoder_of_a_folder_is_told_to_be_one(made, tmp_path, caplog):
    def change(config):
        config["encoders"]["audio_encoder"] = {"name": "/models/muq", "source": "/models/muq", "revision": "local"}

    run = changed_run(made.runs[0], tmp_path, change)
    with caplog.at_level(logging.WARNING):
        make_bundle([run], tmp_path / "model", check=False)
    assert (
        "the audio encoder was the folder /models/muq, which others do not have: they need --audio-encoder with its "
        "weights"
    ) in caplog.messages
    encoder = load_bundle(str(tmp_path / "model")).audio_encoder
    assert (encoder.name, encoder.source, encoder.revision) == ("/models/muq", "/models/muq", "local")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Elsewhere give `--audio-encoder FOLDER` with weights of that hash." in card
    assert "Prompts are expected in\nEnglish" in card


def test_the_hubs_encoder_is_preferred_to_a_folder(made, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    sources = [("/models/muq", "local"), ("OpenMuQ/MuQ-large-msd-iter", commit)]
    runs = []
    for run, (source, revision) in zip(made.runs, sources, strict=True):
        encoders = {"audio_encoder": {"name": source, "source": source, "revision": revision, "precision": "fp16"}}
        runs.append(changed_run(run, tmp_path, lambda config, encoders=encoders: config["encoders"].update(encoders)))
    fuse(runs, out=tmp_path / "fused", method="mean")
    found = make_bundle(runs, tmp_path / "model", tmp_path / "fused", check=False).manifest
    assert (found.encoders.audio.source, found.encoders.audio.revision) == ("OpenMuQ/MuQ-large-msd-iter", commit)
    assert found.encoders.audio.precision == "fp16"
    assert found.licence.id == "cc-by-nc-4.0"
    assert "so is what is trained on them" in found.licence.notice


def test_a_fusion_that_was_applied_later_is_bundled_too(made, tmp_path):
    fuse(made.runs, from_fusion=made.fused("ridge"), out=tmp_path / "later", apply_split="dev")
    make_bundle(made.runs, tmp_path / "model", tmp_path / "later", check=False)
    bundle = load_bundle(str(tmp_path / "model"))
    assert bundle.fusion.to_json() == load_fusion(made.fused("ridge")).to_json()
    assert bundle.calibrations == {}, "the out-of-fold predictions are in the other folder"
    assert "| clips, MI |" in (tmp_path / "model" / "README.md").read_text(), "and their scores in the record"
