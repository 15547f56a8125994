"""The whole line on real WAV files, as a user runs it, and what a user sees of it."""

import configparser
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.heads.presets import preset_names
from audiomos_cache.testing.music import make_dataset
from tests.support.parquet import write_hub_split

ROOT = Path(__file__).parents[1]
TINY = ["--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny", "--pad-to", "2"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run(*arguments: object) -> Result:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset, its cache, two runs and their fusion."""
    folder = tmp_path_factory.mktemp("line")
    make_dataset(folder / "data", prompts=4, seconds=(0.5, 1.5))
    run("extract", "--data", folder / "data", "--cache", folder / "cache", *TINY)
    heads = ["--head", "pooling-dist", "--head", "transformer-scalar", "--seed", 1, "--set", "training.max_epochs=2"]
    run("train-head", "--cache", folder / "cache", *heads, "--out", folder / "runs")
    labels = folder / "data" / "sets" / "dev_mos_list.txt"
    run("fuse", *sorted((folder / "runs").iterdir()), "--labels", labels, "--out", folder / "fused")
    return folder


def test_answer_and_its_zip(line: Path, tmp_path: Path) -> None:
    listed = (line / "data" / "sets" / "eval_list.txt").read_text().split()
    rows = [row.split(",") for row in (line / "fused" / "answer.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == sorted(listed)
    assert all(1 <= float(score) <= 5 and len(score.partition(".")[2]) == 8 for row in rows for score in row[1:])
    answer, eval_list = tmp_path / "answer.zip", line / "data" / "sets" / "eval_list.txt"
    run("submit", line / "fused" / "fused.eval.jsonl", "--list", eval_list, "--out", answer)
    with zipfile.ZipFile(answer) as archive:
        assert archive.namelist() == ["answer.txt"]
        assert archive.read("answer.txt").decode() == (line / "fused" / "answer.txt").read_text()


def test_evaluate_prints_the_sixteen_numbers(line: Path) -> None:
    arguments = (
        "evaluate",
        line / "fused" / "fused.eval.jsonl",
        "--labels",
        line / "data" / "sets" / "test_mos_list.txt",
    )
    numbers = json.loads(run(*arguments, "--json").stdout)
    levels = ("utt_mi", "utt_ta", "sys_mi", "sys_ta")
    measures = ["mse", "lcc", "srcc", "ktau"]
    assert [list(numbers[level]) for level in levels] == [measures + [f"{measure}_ci" for measure in measures]] * 4
    table = run(*arguments).stdout
    assert all(f"{numbers[level]['mse']:.4f}" in table for level in levels)


def test_the_cache_holds_what_the_encoder_says(line: Path) -> None:
    import soundfile
    import torch

    from audiomos_cache.audio.decode import fit_length
    from audiomos_cache.audio.resample import resample

    reader = CacheReader(line / "cache", "dev")
    samples, rate = soundfile.read(line / "data" / "wav" / f"{reader.ids[0]}.wav", dtype="float32")
    waveform = fit_length(resample(samples, rate, 24_000), 48_000)
    (frames,) = load_audio_encoder("muq-tiny").encode(torch.from_numpy(waveform)[None])[:, 0].numpy()
    stored = reader.read_frames(0, padding=True)
    assert stored.shape == (50, 128)
    np.testing.assert_allclose(stored, frames, atol=2e-3)
    assert reader.valid_frames[0] == -(-(len(samples) * 3 // 2 // 240) // 4)
    assert reader.clip(0).duration_s == len(samples) / rate


def test_demo_systems_have_their_own_prompts(line: Path) -> None:
    demo = dict(row.split("\t") for row in (line / "data" / "demo_prompt_info.txt").read_text().splitlines())
    common = dict(row.split("\t") for row in (line / "data" / "prompt_info.txt").read_text().splitlines())
    reader = CacheReader(line / "cache", "train")
    clips = [reader.clip(i) for i in range(len(reader))]
    assert {clip.system in ("S001", "S006") for clip in clips} == {True, False}
    for clip in clips:
        expected = demo[f"{clip.id}.wav"] if clip.system in ("S001", "S006") else common[clip.id[-4:]]
        assert clip.prompt == expected


def test_predict_writes_the_runs_predictions_again(line: Path, tmp_path: Path) -> None:
    folder = line / "runs" / "pooling-dist-seed1"
    out = tmp_path / "p.jsonl"
    printed = run("predict", folder, "--cache", line / "cache", "--split", "eval", "--out", out)
    assert printed.stdout.strip() == str(out)
    assert out.read_bytes() == (folder / "predictions" / "eval.loss.jsonl").read_bytes()


def test_a_bundle_scores_as_the_line_does(line: Path, tmp_path: Path) -> None:
    runs = sorted((line / "runs").iterdir())
    printed = run("bundle", *runs, "--fusion", line / "fused", "--out", tmp_path / "model", "--no-check").stdout
    assert printed.startswith(f"{tmp_path / 'model'}: ridge of 2 heads")
    reader = CacheReader(line / "cache", "eval")
    wav = line / "data" / "wav"
    rows = [{"path": f"{wav / clip}.wav", "prompt": reader.prompt(i)} for i, clip in enumerate(reader.ids)]
    manifest = tmp_path / "items.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = run(
        "score", "--manifest", manifest, "--audio-root", wav, "--bundle", tmp_path / "model", "--batch-size", "3"
    )
    lines = [json.loads(row) for row in scored.stdout.splitlines()]
    fused = [json.loads(row) for row in (line / "fused" / "fused.eval.jsonl").read_text().splitlines()]
    assert [row["id"] for row in lines] == list(reader.ids)
    by_id = {row["id"]: row for row in lines}
    assert len(fused) == len(lines) > 0
    for row in fused:
        for target in ("mi", "ta"):
            assert by_id[row["id"]][target] == pytest.approx(row[target], abs=1e-4)
            low, high = by_id[row["id"]][f"{target}_interval"]
            assert 1 <= low <= row[target] <= high <= 5


def test_parquet_goes_the_whole_line(line: Path, tmp_path: Path) -> None:
    """The clips of dev as the hub has them: scored like their files, and labels like those of the list."""
    runs = sorted((line / "runs").iterdir())
    run("bundle", *runs, "--fusion", line / "fused", "--out", tmp_path / "model", "--no-check")
    clips = load_dataset(line / "data")["dev"]
    prompts = [clip.prompt for clip in clips]
    path = write_hub_split(tmp_path / "validation-00000-of-00001.parquet", clips, prompt=prompts)
    manifest = tmp_path / "items.jsonl"
    rows = [{"path": str(clip.path), "prompt": clip.prompt, "id": clip.id} for clip in clips]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = {}
    for given in (path, manifest):
        root = () if given == path else ("--audio-root", line / "data")
        out = tmp_path / f"{given.stem}.jsonl.out.jsonl"
        for _ in range(2):  # the second time nothing is left to do
            run("score", "--manifest", given, *root, "--bundle", tmp_path / "model", "--out", out)
        lines[given] = [json.loads(row) for row in out.read_text().splitlines()]
    assert len(lines[path]) == len(clips)
    for one, other in zip(lines[path], lines[manifest], strict=True):
        assert (
            one["path"]
            == f"{path}, row {clips.index(next(c for c in clips if c.id == one['id'])) + 1} ({one['id']}.wav)"
        )
        assert set(one.pop("columns")) == {"mi", "ta", "split"}
        assert other.pop("columns") == {}
        assert {**one, "path": ""} == {**other, "path": ""}
    predictions = line / "fused" / "out-of-fold.dev.jsonl"
    ours, theirs = (
        json.loads(run("evaluate", predictions, "--labels", labels, "--json").stdout)
        for labels in (path, line / "data/sets/dev_mos_list.txt")
    )
    assert ours == theirs and ours["n_clips"] == len(clips)


def test_info_says_what_was_extracted(line: Path) -> None:
    described = json.loads(run("info", line / "cache", "--json").stdout)
    lists = {split: f"{split}_mos_list.txt" for split in ("train", "dev", "test")} | {"eval": "eval_list.txt"}
    for split, name in lists.items():
        listed = (line / "data" / "sets" / name).read_text().split()
        assert described["splits"][split]["clips"] == len(listed)
    assert described["fingerprint"] == CacheReader(line / "cache", "dev").fingerprint.digest
    assert described["encoders"]["audio_encoder"]["notice"].startswith("untrained")
    assert described["fingerprint"] in run("info", line / "cache").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train-head", "--head", "nope"], "--head nope: preset not found; known are cross-attention-dist, decoupled"),
        (["train-head", "--set", "pooling=atention"], "pooling: 'atention' is not one of attentive, mean, mean_std"),
        (["train-head", "--set", "layer=2"], "layer: unknown key"),
        (["train-head", "--cache", "nowhere"], "nowhere: no finished split in it; run extract first"),
        (["extract", "--data", "nowhere"], "nowhere"),
        (
            ["info", "nowhere"],
            "nowhere: folder not found, expected a folder that extract, train-head, fuse or bundle wrote",
        ),
        (["verify", "nowhere"], "nowhere: folder not found, expected a folder that extract wrote"),
        (["predict", "nowhere"], "nowhere: contains no config.yaml, so it is not a run; train-head makes runs"),
        (["evaluate", "nowhere.jsonl", "--labels", "nowhere.txt"], "nowhere"),
        (["fuse", "nowhere", "--method", "mean", "--out", "fused"], "nowhere"),
        (["bundle", "nowhere", "--out", "model"], "nowhere"),
        (["score", "nowhere.wav", "--bundle", "nowhere"], "nowhere"),
        (["submit", "nowhere.jsonl", "--list", "nowhere.txt", "--out", "a.zip"], "nowhere"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_1(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_existing_runs_are_refused_by_name(line: Path) -> None:
    result = invoke(
        "train-head", "--cache", line / "cache", "--head", "pooling-dist", "--seed", 1, "--out", line / "runs"
    )
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {line}/runs/pooling-dist-seed1: exists already with a different configuration: "
        "head.training.max_epochs is 2, requested 100; give another --out, or --overwrite\n"
    )


def test_another_pad_to_is_another_fingerprint(line: Path) -> None:
    result = invoke("extract", "--data", line / "data", "--cache", line / "cache", *TINY[:4], "--pad-to", "3")
    assert result.exit_code == 1
    assert "first difference: max_seconds is 2.0, expected 3.0; give another --cache" in result.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = invoke("--debug", "info", tmp_path)
    assert type(result.exception).__name__ == "DataError"


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_help_has_an_example(command: str) -> None:
    text = run(command, "--help").stdout
    assert f"audiomos-cache {command}" in text.split("Example", 1)[1]


@pytest.mark.process
def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from audiomos_cache.cli import main; main(['--help'], standalone_mode=False);"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'h5py', 'transformers', 'numpy', 'rich'}))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.process
def test_launcher_of_a_checkout() -> None:
    printed = subprocess.run([sys.executable, ROOT / "cli.py", "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout.startswith("audiomos-cache, version ")


@pytest.mark.process
def test_installed_package_is_whole(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ROOT,
    ]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "audiomos_cache").rglob("*.py")}
    assert sources <= packed
    assert {f"audiomos_cache/configs/{name}.yaml" for name in preset_names()} <= packed
    assert "audiomos_cache/py.typed" in packed
    assert len(preset_names()) == 8


def test_setup_lists_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "audiomos_cache").rglob("__init__.py")}
    assert listed == found | {"audiomos_cache.configs"}
