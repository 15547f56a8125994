"""Heads that compute as the published code does, on cached features; and runs made from its checkpoints."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from click.testing import CliRunner

from audiomos_cache.audio.decode import decode, fit_length
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.lookup import load_audio_encoder, load_text_encoder
from audiomos_cache.errors import ConfigError
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.heads.model import build_head
from audiomos_cache.locks import locked
from audiomos_cache.runs import Run
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesInMemory, FramesOnDisk
from audiomos_cache.training.loop import predictions_of, run_head
from audiomos_cache.training.predict import predict
from audiomos_cache.training.train_heads import train_heads
from audiomos_cache.upstream.checkpoints import upstream_names
from tests.support.training import job

CPU = torch.device("cpu")
PROMPTS = ("piano", "a slow piano with soft strings and a choir", "fast drums", "ein Lied für Flöte")


def make_clips(folder: Path, count: int = 6, rate: int = 16_000) -> list[Clip]:
    """Clips of 0.3 to 1 s of noise whose ids are not in their order."""
    rng = np.random.default_rng(0)
    clips = []
    for i in range(count):
        clip_id = f"S00{i % 2}_P{count - i:02d}"
        path = folder / f"{clip_id}.wav"
        soundfile.write(path, rng.normal(0, 0.1, int(rate * (0.3 + 0.7 * i / count))), rate, subtype="FLOAT")
        clips.append(Clip(clip_id, path, f"S00{i % 2}", f"P{i}", PROMPTS[i % 4], "train", 3.0, 2.0))
    return clips


def batches_of(cache: Path, *, held: bool = False, upstream: bool = True) -> FeatureBatches:
    reader = CacheReader(cache, "train")
    padding = upstream
    frames = FramesInMemory([reader], reader.layers, CPU, CPU, padding=padding) if held else FramesOnDisk(CPU)
    return FeatureBatches(ClipSet.of_reader(reader), reader.layers, frames, upstream=upstream)


@pytest.mark.parametrize("held", [False, True], ids=["disk", "ram"])
@torch.no_grad()
def test_a_batch_is_what_the_encoders_give_in_the_loop(tmp_path, held):
    """The published code runs both encoders in every step, on prompts padded to the longest of the batch."""
    clips = make_clips(tmp_path)
    audio, text = load_audio_encoder("muq-tiny"), load_text_encoder("roberta-tiny")
    extract_split(clips, tmp_path / "cache", audio, text, ExtractionOptions(pad_to_s=1.0, dtype="float32"))
    clips = sorted(clips, key=lambda clip: clip.id)
    waveforms = [fit_length(decode(clip.path, 24_000, 30.0).samples, 24_000) for clip in clips]
    frames = audio.encode(torch.from_numpy(np.stack(waveforms)))[0]
    inputs = text._tokenizer(
        [clip.prompt for clip in clips], padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    tokens, mask = text._model(**inputs).last_hidden_state, inputs["attention_mask"].bool()
    assert len(set(mask.sum(dim=1).tolist())) == 4, "prompts of different lengths"

    torch.manual_seed(0)
    batches = batches_of(tmp_path / "cache", held=held)
    assert batches.clips.ids == tuple(clip.id for clip in clips)
    for preset in ("transformer-dist", "decoupled-lstm-dist", "transformer-coral"):
        head = build_head(preset, audio.dim, text.dim, compat="upstream").eval()
        in_the_loop = head(frames, torch.ones(frames.shape[:2], dtype=torch.bool), tokens, mask)
        [cached] = run_head(head, batches)
        for target in ("mi", "ta"):
            torch.testing.assert_close(getattr(cached, target), getattr(in_the_loop, target), atol=1e-5, rtol=0)
        [ours] = run_head(head, batches_of(tmp_path / "cache", upstream=False))
        order = [batches.clips.ids.index(clip_id) for clip_id in CacheReader(tmp_path / "cache", "train").ids]
        assert (ours.ta - cached.ta[order]).abs().max() > 1e-4, "the padding decides"


def test_clips_of_their_own_lengths_are_refused(tmp_path):
    clips = make_clips(tmp_path, rate=1000)
    options = ExtractionOptions(pad_to_s=None)
    extract_split(clips, tmp_path / "cache", FakeAudioEncoder(), FakeTextEncoder(), options)
    with pytest.raises(ConfigError, match=r"compat: upstream: the clips of train have from 3 to 8 frames, ex"):
        batches_of(tmp_path / "cache")


class WideText(FakeTextEncoder):
    """The fake's tokens, repeated to RoBERTa's width."""

    def encode(self, prompts):
        self.dim = 2
        features = super().encode(prompts)
        self.dim = 768
        wide = type(features[0])
        return [wide(f.tokens.repeat(1, 384), f.pad_vector.repeat(384), f.cut) for f in features]


class WideAudio(FakeAudioEncoder):
    """The fake's frames, repeated to MuQ's width."""

    def encode(self, waveforms):
        self.dim = 4
        frames = super().encode(waveforms)
        self.dim = 1024
        return frames.repeat(1, 1, 1, 256)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A cache as wide as MuQ's and RoBERTa's, a published checkpoint, and the head that is in it."""
    folder = tmp_path_factory.mktemp("imported")
    text = WideText(dim=768)
    extract_split(make_clips(folder, rate=1000), folder / "cache", WideAudio(dim=1024), text, ExtractionOptions(1.0))
    torch.manual_seed(3)
    head = build_head("transformer-dist", compat="upstream")
    state = {theirs: head.state_dict()[ours] for theirs, ours in upstream_names(head).items()}
    torch.save(state | {"muq.model.conv.weight": torch.zeros(3)}, folder / "ckpt_best_val_srcc.pth")
    return folder, head


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.parametrize("bound", [False, True], ids=["to any cache", "to one cache"])
def test_an_imported_run_predicts_what_the_head_gives(imported, tmp_path, bound):
    folder, head = imported
    checkpoint, out, cache = folder / "ckpt_best_val_srcc.pth", tmp_path / "run", folder / "cache"
    options = ["--cache", cache] if bound else []
    result = run("import-upstream", checkpoint, "--head", "transformer-dist", "--out", out, *options)
    assert (result.exit_code, result.stdout) == (0, f"{out}: best-srcc.safetensors from {checkpoint}\n")
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["head"]["compat"] == "upstream"
    assert (config["fingerprint_fields"] is not None) is bound
    result = run("predict", out, "--cache", cache, "--split", "train", "--best", "srcc", "--device", "cpu")
    assert result.exit_code == 0, result.output
    batches = batches_of(cache)
    expected = predictions_of(run_head(head, batches), batches)
    lines = [json.loads(line) for line in (out / "predictions" / "train.srcc.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == sorted(expected.ids)
    assert [line["ta"] for line in lines] == pytest.approx(expected.ta.tolist(), abs=1e-6)


def test_what_cannot_be_imported_is_refused_in_a_line(imported, tmp_path):
    folder, _ = imported
    checkpoint, out = folder / "ckpt_best_val_srcc.pth", tmp_path / "run"
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    for arguments, message in (
        ((tmp_path / "bad.pth", "--head", "transformer-dist"), "bad.pth: damaged, or not a checkpoint"),
        ((tmp_path / "none.pth", "--head", "transformer-dist"), "none.pth: file not found"),
        ((checkpoint, "--head", "transformer-coral"), "not the tensors of this head"),
        ((checkpoint, "--head", "pooling-dist"), "compat: upstream"),
    ):
        result = run("import-upstream", *arguments, "--out", out)
        assert result.exit_code == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not out.exists()
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    for overwrite in ((), ("--overwrite",)):
        result = run("import-upstream", checkpoint, "--head", "transformer-dist", "--out", out, *overwrite)
        assert result.exit_code == 1
        assert result.stderr == (
            f"Error: {out}: holds notes.txt, which is not part of a run and would be lost; leave these runs out, "
            "give another --out\n"
        )


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_checkpoints_of_a_training_become_one_run(imported, tmp_path):
    folder, _ = imported
    checkpoint, out = folder / "ckpt_best_val_srcc.pth", tmp_path / "run"
    add = ("import-upstream", checkpoint, "--head", "transformer-dist", "--out", out)
    predict = ("predict", out, "--cache", folder / "cache", "--split", "train", "--device", "cpu", "--best")
    assert run(*add).exit_code == 0
    result = run(*predict, "loss")
    assert result.stderr.splitlines()[-1] == (f"Error: {out}/best-loss.safetensors: does not exist; give --best srcc")
    assert run(*predict, "srcc").exit_code == 0
    before = files_of(out)
    result = run(*add, "--best", "loss")
    assert (result.exit_code, result.stdout) == (0, f"{out}: best-loss.safetensors from {checkpoint}\n")
    after = files_of(out)
    assert after.keys() - before.keys() == {"best-loss.safetensors"}
    assert {name for name in before if after[name] != before[name]} == {"config.yaml", "hashes.json"}
    config = yaml.safe_load(after["config.yaml"])
    assert config["imported"] == {"as": "transformer-dist", "from": dict.fromkeys(("srcc", "loss"), str(checkpoint))}
    assert run(*predict, "loss").exit_code == 0
    whole = files_of(out)

    assert "exists already" in run(*add, "--best", "loss").stderr, "this one is there"
    other = ("import-upstream", checkpoint, "--head", "decoupled-dist", "--out", out, "--best", "combined")
    assert "exists already" in run(*other).stderr, "another head, whose tensors are the same"
    bound = run(*add, "--best", "combined", "--cache", folder / "cache")
    assert "exists already" in bound.stderr, "of one cache, and the run of any"
    assert files_of(out) == whole

    (out / "mine.txt").write_text("a note")
    assert "holds mine.txt, which is not part of a run" in run(*other, "--overwrite").stderr, "it would be lost"
    assert run(*add, "--best", "loss", "--overwrite").exit_code == 0
    assert (out / "mine.txt").read_text() == "a note", "what is added to keeps it"
    (out / "mine.txt").unlink()
    assert whole.keys() - files_of(out).keys() == {"predictions/train.loss.jsonl"}, "what the old weights predicted"
    assert run(*other, "--overwrite").exit_code == 0
    assert sorted(files_of(out)) == ["best-combined.safetensors", "config.yaml", "hashes.json"], (
        "another head replaces the run"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_checkpoint_that_cannot_be_read_leaves_the_run_as_it_is(imported, tmp_path):
    folder, _ = imported
    out = tmp_path / "run"
    assert (
        run("import-upstream", folder / "ckpt_best_val_srcc.pth", "--head", "transformer-dist", "--out", out).exit_code
        == 0
    )
    before = files_of(out)
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"not a checkpoint")
    for more in ((), ("--best", "srcc", "--overwrite")):
        assert run("import-upstream", bad, "--head", "transformer-dist", "--out", out, *more).exit_code == 1
        assert files_of(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pth", "run"]


def test_two_imports_into_one_run_do_not_lose_each_others(imported, tmp_path):
    folder, _ = imported
    out = tmp_path / "run"
    with locked(tmp_path / ".run.importing" / "lock", "another"):
        result = run("import-upstream", folder / "ckpt_best_val_srcc.pth", "--head", "transformer-dist", "--out", out)
    assert result.exit_code == 1
    assert f"{out}: is being written by process {os.getpid()} on " in result.stderr


def test_the_layer_of_an_imported_head_can_be_set(imported, tmp_path, pretend_layers):
    folder, _ = imported
    checkpoint, cache = folder / "ckpt_best_val_srcc.pth", folder / "cache"
    pretend_layers(6, 9, 12)
    add = ("import-upstream", checkpoint, "--head", "transformer-dist", "--out")
    predict = ("predict", "--cache", cache, "--split", "train", "--device", "cpu", "--best", "srcc")
    result = run(*add, tmp_path / "bound", "--cache", cache)
    assert "layers: the cache holds layers 6, 9, 12; name one of them (--set layers=9), or w" in result.stderr
    assert run(*add, tmp_path / "bound", "--cache", cache, "--set", "layers=12").exit_code == 0
    assert run(*predict, tmp_path / "bound").exit_code == 0
    assert run(*add, tmp_path / "free").exit_code == 0
    result = run(*predict, tmp_path / "free")
    assert result.stderr.splitlines()[-1] == (
        f"Error: {cache}: holds layers 6, 9, 12, and {tmp_path}/free was imported without a record of what it reads; "
        "import it again with --set layers=12, or another of these"
    )


def test_an_imported_run_refuses_features_of_other_widths(imported, tmp_path):
    folder, _ = imported
    extract_split(make_clips(tmp_path, rate=1000), tmp_path / "cache", FakeAudioEncoder(), FakeTextEncoder(),
                  ExtractionOptions(1.0))  # fmt: skip
    out = tmp_path / "run"
    run("import-upstream", folder / "ckpt_best_val_srcc.pth", "--head", "transformer-dist", "--out", out)
    result = run("predict", out, "--cache", tmp_path / "cache", "--split", "train", "--best", "srcc")
    assert result.exit_code == 1
    assert f"frames of 4 and tokens of 2 dimensions, and {out} takes 1024 and 768" in result.stderr


@pytest.mark.parametrize("preload", ["none", "ram"])
def test_a_head_is_trained_as_the_published_code_does(cache, tmp_path, preload):
    """Its dev loss, its checkpoints and its predictions come from batches with the padding in them."""
    jobs = [job("transformer-dist", 1, "compat=upstream"), job("pooling-dist", 1)]
    train_heads(jobs, cache, tmp_path / "runs", preload=preload)
    run = tmp_path / "runs" / "transformer-dist-seed1"
    head = Run(run).load_head("loss").eval()
    reader = CacheReader(cache, "dev")
    batches = FeatureBatches(ClipSet.of_reader(reader), reader.layers, FramesOnDisk(CPU), upstream=True)
    expected = predictions_of(run_head(head, batches), batches)
    lines = [json.loads(line) for line in (run / "predictions" / "dev.loss.jsonl").read_text().splitlines()]
    assert [line["ta"] for line in lines] == expected.ta.tolist()
    out = tmp_path / "again.jsonl"
    predict(run, cache, "dev", "loss", out, overwrite=False, device="cpu")
    assert out.read_bytes() == (run / "predictions" / "dev.loss.jsonl").read_bytes()
    ours = FeatureBatches(ClipSet.of_reader(reader), reader.layers, FramesOnDisk(CPU))
    assert max(abs(predictions_of(run_head(head, ours), ours).mi - expected.mi)) > 1e-4, (  # the padding counts
        "the frames of the padding count"
    )
