"""`audiomos-cache score song.wav`: the first thing that anybody runs, from the hub's own files to the number."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.cli import main
from audiomos_cache.cli.cmd_score import score as score_command
from audiomos_cache.published.catalogue import DEFAULT, PUBLISHED
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.testing import make_muq_eval
from tests.support.commands import run
from tests.support.hub import served
from tests.support.scoring import wav

FIRST = "muq-eval-a1 (default): head MIT, encoder MuQ CC-BY-NC-4.0: non-commercial use only"


def start(arguments: list[str], folder: Path, **environment: str) -> "subprocess.Popen[str]":
    own = {"HF_HOME": str(folder / "hub"), "HF_HUB_DISABLE_XET": "1"} | environment
    command = [sys.executable, "-m", "audiomos_cache", "score", *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=kept | own, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def score(arguments: list[str], folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    with start(arguments, folder, **environment) as process:
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


@pytest.mark.process
@pytest.mark.slow
def test_a_song_is_scored_by_what_the_hub_has_and_later_without_it(tmp_path: Path) -> None:
    """The hub's own client fetches and writes its cache; no other repository is asked for."""
    weights = make_muq_eval(tmp_path / "weights")
    make_published_bundle("muq-eval-a1", weights, tmp_path / "model", check=False)
    song = wav(tmp_path / "song.wav", 12.0)
    [expected] = Scorer(tmp_path / "model", device="cpu").score([song])
    with served("zhudi2825/MuQ-Eval-A1", weights) as (endpoint, asked):
        first = score(["song.wav"], tmp_path, HF_ENDPOINT=endpoint)
    assert (first.returncode, first.stderr.splitlines()[:2]) == (
        0, [FIRST, "fetching zhudi2825/MuQ-Eval-A1 (1.34 GB), once ..."]
    ), first.stderr  # fmt: skip
    assert "HTTP Request" not in first.stderr
    fetched = [each.rpartition("/")[2] for each in asked if each.startswith("GET") and "/resolve/" in each]
    assert sorted(fetched) == ["base.yaml", "config.yaml", "model_state_dict.pt"]
    assert not [each for each in asked if "OpenMuQ" in each]
    again = score(["song.wav"], tmp_path, HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert again.stderr.splitlines()[0] == FIRST and "fetching" not in again.stderr
    line = json.loads(first.stdout)
    assert line["mi"] == round(expected.mi or 0, 6) and line["ta"] is None and line["heard"] == [1.0, 11.0]
    assert line["scores"] == {name: round(value or 0, 6) for name, value in expected.scores.items()}
    assert {key: line["bundle"][key] for key in ("name", "windows", "licence")} == {
        "name": "muq-eval-a1", "windows": "centre 10 s", "licence": FIRST.partition(": ")[2]
    }  # fmt: skip


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Termin")]
)
def test_a_fetch_ends_at_once_when_it_is_asked_to(tmp_path: Path, number: int, code: int, word: str) -> None:
    """The hub's client waits for threads that no interrupt reaches; what was fetched is kept by it."""
    weights = make_muq_eval(tmp_path / "weights")
    wav(tmp_path / "song.wav", 3.0)
    with (
        served("zhudi2825/MuQ-Eval-A1", weights, stalled="model_state_dict.pt") as (endpoint, asked),
        start(["song.wav"], tmp_path, HF_ENDPOINT=endpoint) as process,
    ):
        while not any(each.startswith("GET") and each.endswith("model_state_dict.pt") for each in asked):
            time.sleep(0.05)
        process.send_signal(number)
        began = time.monotonic()
        _, stderr = process.communicate()
    assert (process.returncode, time.monotonic() - began < 5) == (code, True)
    assert stderr.splitlines()[-1].startswith(word)


@pytest.mark.process
@pytest.mark.slow
def test_without_a_network_there_is_one_message(tmp_path: Path) -> None:
    wav(tmp_path / "song.wav", 3.0)
    done = score(["song.wav"], tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == FIRST and len(done.stderr.splitlines()) == 3
    assert "model_state_dict.pt --local-dir FOLDER` (1.34 GB), copy the folder here" in done.stderr


def test_the_help_names_the_default() -> None:
    [option] = [each for each in score_command.params if each.name == "bundle"]
    assert f"[default: {DEFAULT}]" in str(getattr(option, "help", ""))


def test_info_lists_the_published_bundles() -> None:
    text, found = run("info", "bundles"), json.loads(run("info", "bundles", "--json"))
    assert [each["name"] for each in found["bundles"]] == list(PUBLISHED)
    for entry in PUBLISHED.values():
        for fact in (entry.name, entry.paper, entry.address, entry.size, entry.licence, entry.in_domain):
            assert fact in text
        for target in entry.targets:
            assert target.name in text


def test_bundle_makes_one_of_files_and_refuses_what_goes_with_runs(tmp_path: Path) -> None:
    weights = str(make_muq_eval(tmp_path / "weights"))
    out = run(
        "bundle", "--published", "muq-eval-a1", "--weights", weights, "--no-check", "--out", str(tmp_path / "model")
    )
    assert "the published head muq-eval-a1" in out and "targets: mi, ta_without_prompt" in out
    described = run("info", str(tmp_path / "model"))
    assert described.startswith(f"{tmp_path / 'model'}: a bundle, the published head muq-eval-a1, digest ")
    for arguments, message in (
        (("--published", "muq-eval-a1"), "--published muq-eval-a1: give its files with --weights"),
        (("--published", "muq-eval-a1", "--weights", weights, "--best", "srcc"), "--best: not of a published head"),
        (("--published", "muq-eval-a1", "--weights", weights, "runs"), "RUN: not of a published head; leave it out"),
        (("--weights", weights), "--weights goes with --published"),
        ((), "Missing argument 'RUN...'; or give --published and --weights"),
    ):
        refused = CliRunner().invoke(main, ["bundle", *arguments, "--out", str(tmp_path / "other")])
        assert refused.exit_code == 2 and message in refused.stderr
