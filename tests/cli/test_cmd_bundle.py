"""`bundle` as a user runs it: what it prints, what it refuses, and how soon it says what it does."""

import shlex
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.cli import main
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.testing import make_muq_eval
from audiomos_cache.training.train_heads import train_heads
from tests.support.commands import fail, run
from tests.support.training import extract, job, make_clips


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two runs in `runs`, the fusion `fused` of them, and the labels `dev.txt`."""
    folder = tmp_path_factory.mktemp("cli")
    for seed, split in enumerate(("train", "dev", "eval")):
        clips = make_clips(folder, split, 16, seed)
        extract(clips, folder / "cache", pad_to_s=1.5)
        (folder / f"{split}.txt").write_text("".join(f"{clip.id},{clip.mi},{clip.ta}\n" for clip in clips))
    jobs = [job("pooling-dist", seed, "training.max_epochs=1") for seed in (1, 2)]
    train_heads(jobs, folder / "cache", folder / "runs")
    fuse(folder / "runs", out=folder / "fused", labels=folder / "dev.txt", n_boot=0)
    return folder


def test_it_tells_what_it_made(made, tmp_path):
    out = tmp_path / "model"
    lines = run("bundle", made / "runs", "--fusion", made / "fused", "--out", out, "--no-check").splitlines()
    bundle = load_bundle(str(out))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    mi, ta = bundle.calibrations["mi"], bundle.calibrations["ta"]
    assert lines == [
        f"{out}: ridge of 2 heads, {size / 1e6:.1f} MB",
        "heads: pooling-dist-seed1, pooling-dist-seed2",
        f"digest: {bundle.digest}",
        f"80 % intervals of MI: coverage {mi.coverage:.3f} (95 % interval {mi.coverage_ci[0]:.3f} to "
        f"{mi.coverage_ci[1]:.3f}) on 16 clips that they were calibrated without, mean width {mi.mean_width:.3f}",
        f"80 % intervals of TA: coverage {ta.coverage:.3f} (95 % interval {ta.coverage_ci[0]:.3f} to "
        f"{ta.coverage_ci[1]:.3f}) on 16 clips that they were calibrated without, mean width {ta.mean_width:.3f}",
        f"publish: hf upload OWNER/NAME {out}",
    ]


def test_one_run_by_another_checkpoint(made, tmp_path):
    out = tmp_path / "model"
    single = made / "runs" / "pooling-dist-seed1"
    lines = run("bundle", single, "--best", "combined", "--out", out, "--no-check").splitlines()
    digest, publish = load_bundle(str(out)).digest, f"publish: hf upload OWNER/NAME {out}"
    assert lines[1:] == ["heads: pooling-dist-seed1", f"digest: {digest}", publish]
    again = ("--fit-split", "eval", "--out", out, "--overwrite", "--no-check")
    lines = run("bundle", single, "--labels", made / "eval.txt", *again)
    assert "80 % intervals of TA: coverage " in lines


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("model", "model"), ("my model's", """'my model'"'"'s'"""), ("-model", "./-model"), ("$x", "'$x'")],
)
def test_the_command_that_publishes_it_can_be_pasted(made, tmp_path, monkeypatch, name, quoted):
    monkeypatch.chdir(tmp_path)
    lines = run("bundle", made / "runs" / "pooling-dist-seed1", "--out", name).splitlines()
    assert lines[-1] == f"publish: hf upload OWNER/NAME {quoted}"
    *_, path = shlex.split(lines[-1])
    assert (tmp_path / path / "bundle.yaml").is_file()


def test_what_cannot_be_bundled_is_refused_in_one_line(made, tmp_path):
    assert fail("bundle", made / "runs", "--out", tmp_path / "model") == (
        "Error: 2 runs and no fusion of them, expected one; fuse them, and give --fusion"
    )
    assert not (tmp_path / "model").exists()


def test_the_checkpoint_of_a_fusion_is_not_said_again(made, tmp_path):
    arguments = ["bundle", made / "runs", "--fusion", made / "fused", "--best", "srcc", "--out", tmp_path / "model"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: --best: the fusion says which checkpoints it is of; leave it out" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'RUN...'; or give --published and --weights"),
        (["--weights", "w"], "--weights goes with --published"),
        (["run", "--audio-encoder", "muq"], "--audio-encoder goes with --published"),
        (["--published", "muq-eval-a1"], "--published muq-eval-a1: give its files with --weights"),
        (
            ["run", "--published", "madb", "--weights", "w", "--best", "loss", "--fit-split", "dev", "--labels", "l"],
            "RUN, --best, --labels, --fit-split: not of a published head; leave it out",
        ),
        (
            ["--published", "madb", "--weights", "w", "--fusion", "f"],
            "--fusion: not of a published head; leave it out",
        ),
    ],
)
def test_runs_or_a_published_head(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["bundle", *arguments, "--out", "model"])
    assert (result.exit_code, result.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert result.stderr.splitlines()[-1] == f"Error: {message}"


def test_a_published_head_of_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_muq_eval("weights")
    arguments = ("bundle", "--published", "muq-eval-a1", "--weights", "weights", "--out", "model")
    lines = run(*arguments).splitlines()
    bundle = load_bundle("model")
    size = sum(path.stat().st_size for path in (tmp_path / "model").rglob("*") if path.is_file())
    published = [
        f"model: the published head muq-eval-a1, {size / 1e6:.1f} MB",
        "targets: mi, ta_without_prompt",
        "encoder: muq (encoder, bundle)",
        "licence: muq-eval-a1 (Zhu and Li 2026, arXiv 2603.22677; https://huggingface.co/zhudi2825/MuQ-Eval-A1): head "
        "MIT, encoder MuQ CC-BY-NC-4.0: non-commercial use only.",
        f"digest: {bundle.digest}",
    ]
    *told, verdict, publish = lines
    assert (told, publish) == (published, "publish: hf upload OWNER/NAME model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "(8 clips of made-up music)" in verdict
    assert f"## Can it be trusted?\n\n**{verdict[7:13]}" in card and "| MI | noise | " in card
    assert "\n\nShuffled prompts: no target hears prompts.\n\n" in card and "| shuffled prompts" not in card
    assert fail(*arguments).startswith("Error: model: exists already; ")
    again = run(*arguments, "--overwrite", "--no-check").splitlines()
    assert again == [*published, publish], "the same files give the same bundle"
    assert run("info", "model").splitlines() == [
        f"model: a bundle, the published head muq-eval-a1, digest {bundle.digest}",
        "  targets: mi (1 to 5), ta_without_prompt (1 to 5)",
        "  encoders: muq (encoder, bundle)",
        "  licence: cc-by-nc-4.0",
    ]


def test_a_name_that_nothing_was_published_under(tmp_path):
    line = fail("bundle", "--published", "muq-eval", "--weights", tmp_path, "--out", tmp_path / "model")
    assert line == "Error: --published muq-eval: 'muq-eval' is not one of muq-eval-a1, songeval, madb"
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_whose_encoder_is_not_here_is_made_and_cannot_be_checked(made, tmp_path):
    single, out = made / "runs" / "pooling-dist-seed1", tmp_path / "model"
    lines = run("bundle", single, "--out", out).splitlines()
    assert lines[-2] == "not checked: the encoders could not be loaded"
    assert fail("info", out, "--check", made / "train0.wav") == (
        "Error: the bundle was made with fake-audio, which no code here makes; give --audio-encoder a folder with the "
        "same weights"
    )


def test_check_and_no_check_contradict_each_other(made, tmp_path):
    arguments = ["bundle", made / "runs", "--out", tmp_path / "model", "--check", "song.wav", "--no-check"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: --check goes without --no-check" in result.stderr


@pytest.mark.process
def test_its_help_has_an_example_and_imports_nothing_heavy():
    code = (
        "import sys; from audiomos_cache.cli import main; main(['bundle', '--help'], standalone_mode=False);"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'h5py', 'transformers', 'numpy', 'scipy'}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "audiomos-cache bundle runs --fusion fused --out model" in answer
    assert "audiomos-cache bundle --published muq-eval-a1 --weights FOLDER --out muq" in answer
    assert answer.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope.wav", "--check {}: not found, expected music; give clips, folders or manifests"),
        ("silent.wav", "no clip to check with: silent: {}: silent, peak 0, expected music; check the clip; give music"),
    ],
)
def test_clips_that_are_no_music_stop_it_before_anything_is_made(made, tmp_path, name, said):
    soundfile.write(tmp_path / "silent.wav", np.zeros(24_000), 24_000)
    line = fail("bundle", made / "runs", "--out", tmp_path / "model", "--check", tmp_path / name)
    assert line == f"Error: {said.format(tmp_path / name)}"
    assert not (tmp_path / "model").exists()
