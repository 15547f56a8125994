"""Bundles of heads that others published, from the files that they published."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.manifest import PublishedManifest, write_manifest
from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.encoders.base import seed_weights
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.encoders.muq import build_muq
from audiomos_cache.encoders.muq_weights import RELEASED_CONFIG
from audiomos_cache.encoders.tiny import TINY_MUQ_CONFIG
from audiomos_cache.errors import AudiomosError, BundleError, CacheError, ConfigError, EncoderError, OutputExistsError
from audiomos_cache.published import muq_eval
from audiomos_cache.published.catalogue import PUBLISHED
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.testing import FakeAudioEncoder, make_muq_eval
from tests.support.hub import COMMIT, fill_cache
from tests.support.published import GOLDEN, made_up
from tests.support.scoring import wav

HUB_ID = "zhudi2825/MuQ-Eval-A1"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return make_muq_eval(tmp_path_factory.mktemp("published") / "MuQ-Eval-A1")


@pytest.fixture(scope="session")
def model(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "muq-eval"
    make_published_bundle("muq-eval-a1", checkpoint, out, check=False)
    return out


@pytest.fixture(scope="session")
def song(tmp_path_factory):
    return wav(tmp_path_factory.mktemp("song") / "song.wav", 12.5, rate=22050, channels=2)


def changed(checkpoint: Path, folder: Path, change) -> Path:
    """The checkpoint with other tensors."""
    tensors = torch.load(checkpoint / "model_state_dict.pt", weights_only=True)
    change(tensors)
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "model_state_dict.pt")
    return folder


def refusal(name: str, weights: Path, out: Path, **options) -> str:
    with pytest.raises(AudiomosError) as caught:
        make_published_bundle(name, weights, out, **options, check=False)
    assert not out.exists()
    return str(caught.value)


def test_the_same_files_give_the_same_bytes_and_the_file_alone_too(checkpoint, model, tmp_path):
    for number, weights in enumerate((checkpoint, checkpoint / "model_state_dict.pt")):
        make_published_bundle("muq-eval-a1", weights, tmp_path / str(number), check=False)
    files = sorted(path.relative_to(model) for path in model.rglob("*") if path.is_file())
    assert [str(file) for file in files] == [
        "README.md", "bundle.yaml", "encoder/config.json", "encoder/model.safetensors", "heads/muq-eval-a1.safetensors"
    ]  # fmt: skip
    for number in range(2):
        assert [(tmp_path / str(number) / file).read_bytes() for file in files] == [
            (model / file).read_bytes() for file in files
        ]


def test_names_may_begin_with_module(model, tmp_path):
    made = make_published_bundle(
        "muq-eval-a1", make_muq_eval(tmp_path / "m", prefix="module."), tmp_path / "out", check=False
    )
    assert made.digest == load_bundle(model).digest


def test_the_trainers_own_file_will_do(checkpoint, model, tmp_path):
    tensors = torch.load(checkpoint / "model_state_dict.pt", weights_only=True)
    torch.save({"epoch": 7, "model_state": tensors, "metrics": {"srcc": 0.8}}, tmp_path / "best_model.pt")
    made = make_published_bundle("muq-eval-a1", tmp_path / "best_model.pt", tmp_path / "out", check=False)
    assert made.digest == load_bundle(model).digest


def test_what_it_predicts_and_what_may_be_done_with_it(model):
    bundle = load_bundle(model)
    targets = [(t.name, t.lowest, t.highest, t.clipped, t.hears_prompt) for t in bundle.targets]
    assert targets == [("mi", 1, 5, False, False), ("ta_without_prompt", 1, 5, False, False)]
    assert bundle.licence == "head MIT, encoder MuQ CC-BY-NC-4.0: non-commercial use only"
    features = bundle.input
    assert (features.window, features.padding, features.pad_to_s, features.max_seconds, features.dtype) == (
        "centre", "heard", 10.0, 10.0, "float32"
    )  # fmt: skip


def test_by_its_name_it_is_what_the_folder_is(checkpoint, model, song, offline):
    """As the hub's own client has it, offline; and no MuQ is fetched, as it lies in the checkpoint."""
    fill_cache(checkpoint, offline, HUB_ID)
    [expected] = Scorer(model, device="cpu").score([song])
    for name in ("muq-eval-a1", HUB_ID, f"muq-eval-a1@{COMMIT}"):
        scorer = Scorer(name, device="cpu")
        assert scorer.digests == (load_bundle(model).digest,)
        assert scorer.score([song])[0].scores == expected.scores
    assert Scorer(device="cpu").digests == scorer.digests, "the default"


@pytest.mark.usefixtures("offline")
def test_without_a_network_one_message_says_all():
    with pytest.raises(BundleError) as caught:
        Scorer()
    message = str(caught.value)
    assert message.startswith(f"muq-eval-a1 ({HUB_ID}) cannot be fetched from the Hugging Face hub (")
    assert message.endswith(
        f"On a machine with a network run `hf download {HUB_ID} config.yaml base.yaml model_state_dict.pt --local-dir "
        "FOLDER` (1.34 GB), copy the folder here, "
        "run `audiomos-cache bundle --published muq-eval-a1 --weights FOLDER_OR_FILE --out muq-eval-a1` with it, and "
        "give --bundle ./muq-eval-a1"
    )
    with pytest.raises(BundleError) as caught:
        Scorer("songeval")
    assert str(caught.value) == (
        "--bundle songeval: its weights are not on the Hugging Face hub; fetch them from "
        "https://github.com/ASLP-lab/SongEval (ckpt/model.safetensors, by git-lfs), run `audiomos-cache bundle "
        "--published songeval --weights FOLDER_OR_FILE --out songeval`, and give --bundle ./songeval"
    )


def test_a_name_with_a_typo_has_the_nearest_ones():
    with pytest.raises(BundleError) as caught:
        Scorer("muq-eval")
    assert str(caught.value) == (
        "--bundle muq-eval: 'muq-eval' is not one of muq-eval-a1, songeval, madb, nor a folder, nor a hub id of the "
        "form owner/name"
    )
    with pytest.raises(BundleError, match=r"^--published songevl: 'songevl' is not one of songeval, "):
        make_published_bundle("songevl", "x", "y", check=False)
    with pytest.raises(BundleError, match=r"^zhudi2825/MuQ-Eval: its LoRA weights change the encoder's attention"):
        Scorer("zhudi2825/MuQ-Eval")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("heads.MI.mlp.3.bias"),
            "MuQ-Eval-A1: not the tensors of MuQ-Eval-A1: missing: heads.MI.mlp.3.bias",
        ),
        (
            lambda t: t.update({"heads.MI.mlp.9.bias": t.pop("heads.MI.mlp.3.bias")}),
            "missing: heads.MI.mlp.3.bias; unknown: heads.MI.mlp.9.bias",
        ),
        (
            lambda t: t.update({"decoder.weight": torch.zeros(1)}),
            "unknown: decoder.weight; give the file that was published",
        ),
        (
            lambda t: t.update({"heads.TA.mlp.3.weight": torch.zeros(2, 32)}),
            "heads.TA.mlp.3.weight is (2, 32), expected (1, 32); give the file that was published",
        ),
        (lambda t: t.update({"heads.TA.mlp.3.bias": torch.tensor([torch.nan])}), "heads.TA.mlp.3.bias is not finite"),
        (
            lambda t: t.pop("encoder.encoder.model.conv.conv.0.bn1.running_mean"),
            "lacks model.conv.conv.0.bn1.running_mean (1 tensors); expected the weights of a MuQ",
        ),
        (
            lambda t: t.update({"encoder.encoder.model.conformer.layers.1.final_layer_norm.weight": torch.ones(3)}),
            "model.conformer.layers.1.final_layer_norm.weight has the shape (3,), expected (128,) by its config",
        ),
        (
            lambda t: t.update({"encoder.encoder.model.conformer.layers.0.more": torch.ones(3)}),
            "holds unknown model.conformer.layers.0.more (1 tensors); expected the weights of a MuQ",
        ),
        (
            lambda t: t.pop("encoder.encoder.model.conformer.embed_positions.inv_freq"),
            "model.conformer.embed_positions.inv_freq is missing, expected the weights of a MuQ",
        ),
        (
            lambda t: t.update({"encoder.encoder.model.conformer.layers.0.self_attn.linear_q.lora_A": torch.ones(3)}),
            "LoRA changes the encoder (MuQ-Eval-A3a), and these heads are for a frozen MuQ; give MuQ-Eval-A1",
        ),
        (
            lambda t: t.update({"module.heads.MI.mlp.3.bias": torch.zeros(1)}),
            "holds heads.MI.mlp.3.bias with and without module., expected each tensor once",
        ),
        (
            lambda t: t.update({"encoder.encoder.model.conv.linear.bias": torch.full((128,), torch.nan)}),
            "model.conv.linear.bias is not finite; expected the weights of a MuQ",
        ),
        (
            lambda t: t.update({"encoder.encoder.model.conv.linear.bias": torch.zeros(128, dtype=torch.int64)}),
            "model.conv.linear.bias is torch.int64, torch.strided, on cpu, expected dense floats",
        ),
        (
            lambda t: t.update({"encoder.pooling.attention.0.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}),
            "encoder.pooling.attention.0.weight has 1099511627776 numbers and stores fewer, expected each",
        ),
        (
            lambda t: t.update({"x.weight": t.pop("heads.MI.mlp.0.weight")}),
            "heads.MI.mlp.0.weight is missing, expected a matrix; found encoder.pooling.attention.0.bias, ",
        ),
        (lambda t: t.update({"heads.MI.bin_centers": torch.ones(5)}), "ordinal bins (MuQ-Eval-A3a), expected MuQ-Eval"),
    ],
)
def test_other_tensors_are_refused_by_name(checkpoint, tmp_path, change, message):
    weights = changed(checkpoint, tmp_path / "weights", change)
    assert message in refusal("muq-eval-a1", weights, tmp_path / "out")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    (tmp_path / "weights").mkdir()
    torch.save({"a": Evil()}, tmp_path / "weights" / "model_state_dict.pt")
    found = refusal("muq-eval-a1", tmp_path / "weights", tmp_path / "out")
    assert found.endswith("save its state_dict alone; nothing in it was run") and "__builtin__.print" in found


def test_configs_of_another_model_are_refused(tmp_path):
    weights = make_muq_eval(tmp_path / "weights")
    (weights / "base.yaml").write_text("model: {tuning_mode: lora}\n")
    assert refusal("muq-eval-a1", weights, tmp_path / "out") == (
        f"{weights}: its config has model.tuning_mode 'lora', expected 'frozen' as MuQ-Eval-A1 was released with"
    )


def test_a_file_that_was_damaged_on_the_way_names_what_to_remove(checkpoint, offline):
    snapshot = fill_cache(checkpoint, offline, HUB_ID)
    (snapshot / "model_state_dict.pt").resolve().write_bytes(b"damaged")
    with pytest.raises(BundleError) as caught:
        Scorer("muq-eval-a1", device="cpu")
    folder = offline / "models--zhudi2825--MuQ-Eval-A1"
    assert str(caught.value).endswith(f"; if it was damaged on the way, remove {folder} and run it again")


def test_nothing_there_is_said(tmp_path):
    assert refusal("muq-eval-a1", tmp_path / "none", tmp_path / "out") == (
        f"--weights {tmp_path / 'none'}: not found, expected the files of muq-eval-a1 "
        "(https://huggingface.co/zhudi2825/MuQ-Eval-A1)"
    )
    (tmp_path / "empty").mkdir()
    assert refusal("muq-eval-a1", tmp_path / "empty", tmp_path / "out").endswith("expected the published MuQ-Eval-A1")
    assert "missing: avg_overall_score.pt, " in refusal("madb", tmp_path / "empty", tmp_path / "out")
    assert "model.safetensors: " in refusal("songeval", tmp_path / "empty", tmp_path / "out")


def test_a_folder_of_ones_own_is_not_replaced(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(OutputExistsError, match=r"mine.txt, which is not part of a bundle and would be lost"):
        make_published_bundle("muq-eval-a1", checkpoint, tmp_path / "out", overwrite=True, check=False)
    make_published_bundle("muq-eval-a1", checkpoint, tmp_path / "model", check=False)
    with pytest.raises(OutputExistsError, match=r"exists already"):
        make_published_bundle("muq-eval-a1", checkpoint, tmp_path / "model", check=False)
    make_published_bundle("muq-eval-a1", checkpoint, tmp_path / "model", overwrite=True, check=False)


def folder_of(muq, config, folder: Path) -> Path:
    """A MuQ in the format of the published one."""
    folder.mkdir()
    save_file({name: each.contiguous() for name, each in muq.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def muq(tmp_path_factory):
    """The encoder of the checkpoint, as a folder of its own."""
    model = build_muq(TINY_MUQ_CONFIG)
    seed_weights(model, 15)
    return folder_of(model, TINY_MUQ_CONFIG, tmp_path_factory.mktemp("muq") / "muq")


def test_an_encoder_that_is_the_checkpoints_is_used_instead(checkpoint, model, muq, song, tmp_path, caplog):
    made = make_published_bundle("muq-eval-a1", checkpoint, tmp_path / "out", audio_encoder=str(muq), check=False)
    assert not (tmp_path / "out" / "encoder").exists()
    assert caplog.messages == [
        f"the audio encoder was the folder {muq}, which others do not have: they need --audio-encoder with its weights"
    ]
    audio = made.manifest.encoders.audio
    assert (audio.source, audio.revision) == (str(muq), "local")
    found, expected = (Scorer(each, device="cpu").score([song])[0].scores for each in (tmp_path / "out", model))
    assert found == expected


def test_an_encoder_of_other_layers_is_turned_to_the_heads_own(checkpoint, model, muq, song, tmp_path):
    expected = Scorer(model, device="cpu").score([song])[0].scores
    digests = set()
    for layers in ((0,), (1,), (0, 2), (-1,)):
        given = load_audio_encoder(str(muq), layers=layers)
        before = given.layers
        out = tmp_path / "-".join(map(str, layers))
        made = make_published_bundle("muq-eval-a1", checkpoint, out, audio_encoder=given, check=False)
        assert not (out / "encoder").exists() and made.manifest.fingerprint.fields.layers == (2,)
        assert given.layers == before
        digests.add(made.digest)
        assert Scorer(out, device="cpu").score([song])[0].scores == expected
        assert Scorer(model, audio_encoder=given).score([song])[0].scores == expected
    assert len(digests) == 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_no_muq_is_refused_for_each(name, checkpoint, tmp_path):
    given = FakeAudioEncoder()
    assert refusal(name, published_files(name, checkpoint, tmp_path), tmp_path / "out", audio_encoder=given) == (
        f"--audio-encoder fake-audio: not a MuQ, which {name} is for; give one, or none"
    )


def published_files(name: str, checkpoint: Path, folder: Path) -> Path:
    """The files of each published head, where their weights are made up."""
    if name == "muq-eval-a1":
        return checkpoint
    tensors = made_up(GOLDEN[name]["parameters"], GOLDEN[name]["SCALE"])
    if name == "songeval":
        save_file(tensors, folder / "model.safetensors")
    else:
        for file in PUBLISHED[name].files:
            torch.save(tensors, folder / Path(file).name)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": "1"},
        {"layers": "1,2"},
        {"window": "first"},
        {"window": "whole"},
        {"max_seconds": 30.0},
        {"max_seconds": 5.0},
        {"pad_to_s": None},
        {"pad_to_s": 30.0, "max_seconds": 30.0},
        {"padding": "masked"},
        {"dtype": "float16"},
    ],
    ids=str,
)
def test_features_that_are_not_the_heads_own_are_refused_by_its_name(model, tmp_path, changes):
    """Also with a digest that is right: the head would score something else under the name of the published one."""
    copy = shutil.copytree(model, tmp_path / "copy")
    content = yaml.safe_load((copy / "bundle.yaml").read_text())
    fields = content["fingerprint"]["fields"]
    fields |= {key: value for key, value in changes.items() if key != "layers"}
    fields["audio_encoder"] |= {key: value for key, value in changes.items() if key == "layers"}
    content["fingerprint"]["xxh3_128"] = Fingerprint.of(fields).digest
    about = {key: each for key, each in content.items() if key not in ("format", "format_version", "digest")}
    write_manifest(copy, PublishedManifest.model_validate(about))
    with pytest.raises(BundleError) as caught:
        load_bundle(copy)
    assert str(caught.value).startswith(f"{copy}: its head is given (")
    assert str(caught.value).endswith(
        "), expected layer 2 of the middle 10 s, with padding heard, in float32, as muq-eval-a1 was released with; "
        "make the bundle again"
    )


def test_a_command_that_fetches_names_each_file_in_full(offline):
    """Or it cannot be copied to a terminal."""
    with pytest.raises(BundleError) as caught:
        Scorer("madb")
    entry = PUBLISHED["madb"]
    command = f"`hf download {entry.repository} {' '.join(entry.files)} --local-dir FOLDER` ({entry.size})"
    assert command in str(caught.value)
    assert not offline.exists()


def test_what_is_fetched_is_said_once_with_its_size(checkpoint, offline, caplog):
    caplog.set_level("INFO", logger="audiomos_cache")
    with pytest.raises(BundleError):
        load_bundle("muq-eval-a1")
    assert caplog.messages == [f"fetching {HUB_ID} (1.34 GB), once ..."]
    caplog.clear()
    fill_cache(checkpoint, offline, HUB_ID)
    load_bundle("muq-eval-a1")
    assert caplog.messages == []


def test_a_statistic_that_drifted_is_named_and_the_checkpoint_scores_with_its_own(muq, song, tmp_path, caplog):
    drifted = build_muq(TINY_MUQ_CONFIG)
    seed_weights(drifted, 15)
    drifted.model.conv.conv[0].bn1.running_mean += 0.25
    weights = make_muq_eval(tmp_path / "weights", encoder=drifted)
    make_published_bundle("muq-eval-a1", weights, tmp_path / "out", audio_encoder=str(muq), check=False)
    [warning] = caplog.messages
    assert warning == (
        f"the MuQ of muq-eval-a1 is not {muq}: model.conv.conv.0.bn1.running_mean by up to 0.25 (1 of 106 tensors); "
        "the bundle has the checkpoint's own encoder"
    )
    alone = make_published_bundle("muq-eval-a1", weights, tmp_path / "alone", check=False)
    assert alone.digest == load_bundle(tmp_path / "out").digest
    assert Scorer(tmp_path / "out", device="cpu").score([song])[0].mi is not None
    with pytest.raises(CacheError, match=r"first difference: audio_encoder.weights_xxh3_128 is"):
        Scorer(tmp_path / "out", device="cpu", audio_encoder=str(muq))


def test_an_own_encoder_that_was_changed_is_refused(model, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    tensors = load_file(copy / "encoder" / "model.safetensors")
    tensors["model.conv.linear.bias"][0] += 1
    save_file(tensors, copy / "encoder" / "model.safetensors")
    with pytest.raises(CacheError, match=r"first difference: audio_encoder.weights_xxh3_128 is"):
        Scorer(copy, device="cpu")
    (copy / "encoder" / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"missing encoder/model.safetensors, which bundle.yaml lists"):
        Scorer(copy, device="cpu")


def test_a_head_for_a_larger_encoder_is_refused_by_a_smaller_one(tmp_path):
    songeval = made_up(GOLDEN["songeval"]["parameters"], GOLDEN["songeval"]["SCALE"])
    save_file(songeval, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"--layers 6: muq-tiny has layers 0 to 2"):
        make_published_bundle("songeval", tmp_path, tmp_path / "out", audio_encoder="muq-tiny", check=False)
    deep = TINY_MUQ_CONFIG | {"encoder_depth": 6}
    muq = folder_of(build_muq(deep), deep, tmp_path / "deep")
    assert refusal("songeval", tmp_path, tmp_path / "out", audio_encoder=str(muq)) == (
        "songeval takes frames of 1024 dimensions, and the encoder gives 128; give another"
    )
    with pytest.raises(EncoderError):
        make_published_bundle("songeval", tmp_path, tmp_path / "out", audio_encoder=str(tmp_path / "muq"), check=False)


def test_the_width_of_a_head_follows_from_its_tensors(tmp_path):
    wide = muq_eval.build(muq_eval.read(make_muq_eval(tmp_path / "wide", hidden=256)).head).state_dict()
    shapes = [tuple(wide[f"heads.{name}.weight"].shape) for name in ("MI.mlp.0", "TA.mlp.3")]
    assert shapes == [(256, 128), (1, 256)]


def test_a_muq_without_its_config_is_the_released_one_with_the_widths_of_its_tensors(checkpoint):
    found = muq_eval.read(checkpoint).encoder
    assert found is not None and found.config == TINY_MUQ_CONFIG
    assert {k: RELEASED_CONFIG[k] for k in ("stat",)} == {"stat": found.config["stat"]}


def test_the_card_has_the_figures_and_their_meaning(model):
    card = (model / "README.md").read_text()
    entry = PUBLISHED["muq-eval-a1"]
    for sentence in (*entry.meaning, entry.in_domain, entry.licence, "non-commercial use only"):
        assert sentence in card
    assert re.search(r"\| mi \| 1 to 5 \| no \|", card)
