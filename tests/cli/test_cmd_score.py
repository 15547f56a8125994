"""The command with a scorer that is made up: what goes in, what comes out, and what an interruption leaves."""

import csv
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

import audiomos_cache
from audiomos_cache.cli import main
from audiomos_cache.scoring.inputs import SUFFIXES
from audiomos_cache.scoring.results import Score
from tests.support.commands import fail, run
from tests.support.fake_scorer import DIGEST, FakeScorer, install_fake_scorer, scores_of

CHECKOUT = Path(audiomos_cache.__file__).parents[1]


@pytest.fixture(autouse=True)
def music(tmp_path, monkeypatch):
    """Where the user is: three clips in a folder, and a scorer."""
    install_fake_scorer(tmp_path, monkeypatch)
    return tmp_path


def score(*arguments):
    return CliRunner().invoke(main, ["score", "--bundle", "model", *map(str, arguments)], catch_exceptions=False)


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


def manifest(path, **prompts):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "prompt", "id"), *((f"m/{name}", *rest) for name, *rest in prompts.values())]
        )
    return path


# What goes in


def test_files_and_folders_with_one_prompt(music):
    (music / "song.wav").touch()
    result = score("song.wav", "m", "--prompt", "slow piano")
    assert (result.exit_code, result.stderr.splitlines()) == (
        0,
        ["score: 4 of 4 clips, 0 s", "4 of 4 clips scored, 0 failed; mean MI 1.450, TA 2.000"],
    )
    assert rows(result.stdout) == [
        Score(clip_id, path, "slow piano", mi, 2.0, scores=scores_of(mi, 2.0), windows=1, heard=(0.0, 20.0)).to_dict()
        | {"warnings": [], "bundle": {"name": "model", "digest": DIGEST, "windows": "mean of 30 s", "licence": "mit"}}
        for clip_id, path, mi in (
            ("song", "song.wav", 1.4),
            ("a", "m/a.wav", 1.1),
            ("bb.mp3", "m/bb.mp3", 1.6),
            ("sub/ccc", "m/sub/ccc.wav", 1.7),
        )
    ]


def test_a_manifest_with_a_prompt_for_each(music):
    manifest(music / "m.csv", a=("a.wav", "slow piano", ""), b=("bb.mp3", "", "second"))
    result = score("--manifest", "m.csv")
    found = [(row["id"], row["path"], row["prompt"], row["ta"], row["warnings"]) for row in rows(result.stdout)]
    assert found == [("a", "m/a.wav", "slow piano", 2.0, []), ("second", "m/bb.mp3", "", None, ["prompt empty"])]
    assert result.stderr.splitlines()[-1] == (
        "2 of 2 clips scored, 0 failed, 1 with warnings; mean MI 1.350, TA 2.000 (of 1)"
    )


@pytest.mark.parametrize(("options", "prompt", "warnings"), [([], None, []), (["--prompt", ""], "", ["prompt empty"])])
def test_without_a_prompt_mi_alone(options, prompt, warnings):
    result = score("m/a.wav", *options)
    [row] = rows(result.stdout)
    assert (row["prompt"], row["mi"], row["ta"], row["warnings"]) == (prompt, 1.1, None, warnings)
    assert result.stderr.endswith("; mean MI 1.100\n")


def test_the_audio_root_of_a_manifest_elsewhere(music, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists") / "m.jsonl"
    lines = [{"path": str(music / "m/a.wav"), "prompt": "x"}, {"path": "bb.mp3", "prompt": "x"}]
    elsewhere.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = rows(score("--manifest", elsewhere, "--audio-root", music / "m").stdout)
    assert [row["path"] for row in found] == [f"{music}/m/a.wav", f"{music}/m/bb.mp3"]
    line = fail("score", "--bundle", "model", "--manifest", elsewhere)
    assert f"to allow it, give --audio-root '{music}/m', or a folder above" in line
    line = fail("score", "--bundle", "model", "--manifest", elsewhere, "--audio-root", "gone")
    assert line == "Error: --audio-root gone: folder not found, expected the one that the audio is in"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to score; give AUDIO files or folders, or --manifest"),
        (["--prompt", "x"], "nothing to score; give AUDIO files or folders, or --manifest"),
        (["--manifest", "m.csv", "--prompt", ""], "--prompt goes without --manifest, whose rows have their own"),
        (["m", "--manifest", "m.csv"], "'m': AUDIO goes without --manifest, which lists its own; the folder that it"),
        (["m", "--audio-root", "m"], "--audio-root goes with --manifest, whose paths are relative to it"),
        (["--manifest", "m.csv", "--out", "m/../m.csv", "--overwrite"], "--out is the manifest; give another one"),
        (["m", "--overwrite"], "--overwrite goes with --out"),
        (["m", "--out", "m"], "File 'm' is a directory."),
        (["m", "--out", "s.jsonl", "--json"], "--json goes without --out, whose suffix is the format"),
        (["m", "--precision", "int8"], "'int8' is not one of"),
        (["m", "--batch-size", "0"], "0 is not in the range 1<=x<=65536"),
    ],
)
def test_wrong_usage(music, arguments, message):
    manifest(music / "m.csv", a=("a.wav", "slow piano", ""))
    before = (music / "m.csv").read_bytes()
    result = score(*arguments)
    assert (result.exit_code, result.stdout, FakeScorer.asked) == (2, "", None)
    assert message in result.stderr.splitlines()[-1]
    assert (music / "m.csv").read_bytes() == before


def test_without_a_bundle_the_published_default_scores(caplog):
    caplog.set_level("INFO")
    run("score", "m")
    assert FakeScorer.asked == {"bundle": ["muq-eval-a1"], "device": "auto", "windows": "released"}
    assert caplog.messages == ["muq-eval-a1 (default): head MIT, encoder MuQ CC-BY-NC-4.0: non-commercial use only"]


def test_several_bundles_score_in_one_call():
    result = CliRunner().invoke(main, ["score", "m", "--bundle", "model", "--bundle", "deaf", "--windows", "mean"])
    assert (result.exit_code, FakeScorer.asked) == (
        1, {"bundle": ["model", "deaf"], "device": "auto", "windows": "mean"}
    )  # fmt: skip
    assert [{name: each["mi"] for name, each in row["bundles"].items()} for row in rows(result.stdout)] == [
        {"model": 1.1, "deaf": None},
        {"model": 1.6, "deaf": 1.6},
        {"model": 1.7, "deaf": 1.7},
    ]
    assert result.stderr.splitlines()[-2:] == [
        "3 of 3 clips scored, 1 failed; mean model.mi 1.467, deaf.mi 1.650 (of 2)",
        "Error: 1 of 3 clips could not be scored: a: deaf: it hears nothing; correct them and score them again",
    ]


def test_two_bundles_of_one_name_cannot_be_told_apart():
    score("m", "--out", "s.jsonl")
    both = ("--bundle", "a/model", "--bundle", "b/model")
    assert fail("score", "m", *both, "--out", "s.jsonl") == (
        "Error: 2 bundles, and more than one is called 'model', which their scores are named by; rename a folder, or "
        "give each bundle once"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m", "m/a.wav"], "'m/a.wav': given twice; give each file once, or ids of their own in a --manifest"),
        (
            ["--manifest", "bad.csv"],
            "bad.csv: found the columns ['path'], expected path (or file_name) and prompt (or text, "
            "caption), and none twice",
        ),
        (
            ["--manifest", "twice.csv"],
            "twice.csv:3: found 'a' again, expected it only in line 2, of 'm/a.wav' and 'm/bb.mp3'; add a column id, "
            "with an id of its own for each row; correct twice.csv",
        ),
        (["empty"], f"empty: no audio in it, expected files named {', '.join(SUFFIXES)}, not hidden ones"),
    ],
)
def test_bad_input_is_told_before_anything_is_loaded(music, arguments, message):
    (music / "bad.csv").write_text("path\nm/a.wav\n")
    manifest(music / "twice.csv", a=("a.wav", "x", ""), b=("bb.mp3", "y", "a"))
    (music / "empty").mkdir()
    assert fail("score", "--bundle", "model", *arguments) == f"Error: {message}"
    assert FakeScorer.asked is None


def test_the_scorer_gets_what_was_asked_for():
    asked = {"audio_encoder": "muq", "text_encoder": "bert", "device": "cpu", "precision": "bf16"}
    options = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", value)]
    run("score", "m", "--bundle", "owner/name@v1", *options, "--batch-size", "3")
    assert FakeScorer.asked == {"bundle": ["owner/name@v1"], "batch_size": 3, "windows": "released", **asked}
    run("score", "m", "--bundle", "model", "--device", "cpu")
    assert FakeScorer.asked == {"bundle": ["model"], "device": "cpu", "windows": "released"}


def test_untrained_encoders_are_logged(monkeypatch, caplog):
    monkeypatch.setattr(FakeScorer, "untrained", ("muq-tiny", "roberta-tiny"))
    notice = "untrained: shows that the pipeline works, nothing more"
    score("m")
    assert caplog.messages == [f"muq-tiny is {notice}", f"roberta-tiny is {notice}"]


# What comes out


def test_a_bad_file_is_a_line_and_the_run_goes_on():
    names = [f"m/gone-{number}.wav" for number in range(6)]
    result = score("m/a.wav", *names, "m/bb.mp3", "--prompt", "x")
    assert result.exit_code == 1
    found = rows(result.stdout)
    assert [row["id"] for row in found] == ["a", *(f"gone-{number}" for number in range(6)), "bb.mp3"]
    assert [row["error"] for row in found if row["error"]] == [
        f"{name}: no such file, expected audio" for name in names
    ]
    reasons = ", ".join(f"gone-{number}: m/gone-{number}.wav: no such file, expected audio" for number in range(5))
    assert result.stderr.splitlines()[-2:] == [
        "2 of 8 clips scored, 6 failed; mean MI 1.350, TA 2.000",
        f"Error: 6 of 8 clips could not be scored: {reasons}, ... (6 in all); correct them and score them again",
    ]


def test_a_name_that_is_not_utf8(music):
    name = os.fsdecode(b"m/caf\xe9.wav")
    (music / name).touch()
    result = score("m", "gone-" + os.fsdecode(b"\xe9"))
    assert result.exit_code == 1
    assert [os.fsencode(row["path"]) for row in map(json.loads, result.stdout_bytes.splitlines())] == [
        b"m/a.wav", b"m/bb.mp3", b"m/caf\xe9.wav", b"m/sub/ccc.wav", b"gone-\xe9"
    ]  # fmt: skip
    result.stdout_bytes.decode("utf-8")


def test_an_odd_name_keeps_no_other_clip_from_its_score(music):
    (music / "m/a\n\x1b[31m.wav").touch()
    result = score("m", "gone\x1b[31m.wav")
    found = rows(result.stdout)
    assert [(row["id"], row["path"], row["error"] is None) for row in found] == [
        (r"a\n\x1b[31m", "m/a\n\x1b[31m.wav", True),
        ("a", "m/a.wav", True),
        ("bb.mp3", "m/bb.mp3", True),
        ("sub/ccc", "m/sub/ccc.wav", True),
        (r"gone\x1b[31m", "gone\x1b[31m.wav", False),
    ]
    reasons = r"gone\x1b[31m: gone\x1b[31m.wav: no such file, expected audio"
    assert result.stderr.splitlines()[-1] == (
        f"Error: 1 of 5 clips could not be scored: {reasons}; correct them and score them again"
    )


def test_out_holds_the_lines_and_stdout_nothing(music):
    printed = score("m", "--prompt", "夜曲").stdout_bytes
    result = score("m", "--prompt", "夜曲", "--out", "new/s.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (music / "new/s.jsonl").read_bytes() == printed
    assert [path.name for path in Path("new").iterdir()] == ["s.jsonl"]


# Going on


def test_what_is_done_is_not_scored_again_and_the_rest_is_appended(music, caplog):
    caplog.set_level("INFO")
    score("m/sub", "m/a.wav", "--prompt", "x", "--out", "s.jsonl")
    assert [row["id"] for row in rows((music / "s.jsonl").read_text())] == ["ccc", "a"]
    before = (music / "s.jsonl").read_bytes()
    FakeScorer.scored = ()
    result = score("m/a.wav", "m/bb.mp3", "m/sub/ccc.wav", "gone.wav", "--prompt", "x", "--out", "s.jsonl")
    assert FakeScorer.scored == ("bb.mp3", "gone")
    assert (music / "s.jsonl").read_bytes().startswith(before)
    assert [row["id"] for row in rows((music / "s.jsonl").read_text())] == ["ccc", "a", "bb.mp3", "gone"]
    assert caplog.messages[-1] == "2 of 4 done before"
    assert result.stderr.splitlines() == [
        "score: 2 of 2 clips, 0 s, 1 failed",
        "3 of 4 clips scored, 1 failed; mean MI 1.333, TA 2.000",
        "Error: 1 of 4 clips could not be scored: gone: gone.wav: no such file, expected audio; correct them and run "
        "it again, which tries only them",
    ]


def test_the_same_files_by_absolute_paths_are_done(music, caplog):
    caplog.set_level("INFO")
    score("m", "--prompt", "x", "--out", "s.jsonl")
    before, FakeScorer.asked = (music / "s.jsonl").read_bytes(), None
    result = score(music / "m", "--prompt", "x", "--out", "s.jsonl")
    assert (result.exit_code, caplog.messages[-1], FakeScorer.asked) == (0, "3 of 3 done before", None)
    assert (music / "s.jsonl").read_bytes() == before


def test_a_failed_one_is_tried_again(music):
    assert score("m", "late.wav", "--out", "s.jsonl").exit_code == 1
    (music / "late.wav").touch()
    FakeScorer.scored = ()
    assert score("m", "late.wav", "--out", "s.jsonl").exit_code == 0
    assert FakeScorer.scored == ("late",)
    found = rows((music / "s.jsonl").read_text())
    assert [(row["id"], row["error"]) for row in found] == [(i, None) for i in ("a", "bb.mp3", "sub/ccc", "late")]


def test_where_all_is_done_no_encoder_is_loaded(music, caplog):
    caplog.set_level("INFO")
    score("m", "--out", "s.jsonl")
    FakeScorer.asked, before = None, (music / "s.jsonl").read_bytes()
    result = score("m", "--out", "s.jsonl")
    assert (result.exit_code, FakeScorer.asked) == (0, None)
    assert caplog.messages[-1] == "3 of 3 done before"
    assert result.stderr.splitlines() == ["3 of 3 clips scored, 0 failed; mean MI 1.467"]
    assert (music / "s.jsonl").read_bytes() == before


def test_another_bundle_prompt_or_path_is_refused_and_the_file_kept(music, monkeypatch):
    score("m/a.wav", "--prompt", "x", "--out", "s.jsonl")
    before = (music / "s.jsonl").read_bytes()
    advice = "give another --out, or --overwrite to start again"
    arguments = ("score", "--bundle", "model", "--out", "s.jsonl")
    line = fail(*arguments, "m/a.wav", "--prompt", "y")
    assert line == f"Error: {music}/s.jsonl:1: 'a' was scored with the prompt 'x', expected 'y'; {advice}"
    (music / "a.wav").touch()
    line = fail(*arguments, music / "a.wav", "--prompt", "x")
    assert f"'a' was scored with the path 'm/a.wav', expected '{music}/a.wav'; {advice}" in line
    monkeypatch.setattr(FakeScorer, "made_by", "cd" * 16)
    line = fail(*arguments, "m/bb.mp3", "--prompt", "x")
    assert line == (
        f"Error: {music}/s.jsonl:1: 'a' was scored by the bundle {DIGEST} (mean of 30 s), expected {'cd' * 16} (mean "
        f"of 30 s); {advice}"
    )
    assert (music / "s.jsonl").read_bytes() == before
    run(*arguments, "m/bb.mp3", "--prompt", "x", "--overwrite")
    assert [row["id"] for row in rows((music / "s.jsonl").read_text())] == ["bb.mp3"]


FORMATS = "the suffix is {!r}, expected one of .jsonl, .csv, .parquet"
KINDS = [
    ("m/a.wav", 2, FORMATS.format(".wav")),
    ("notes.txt", 2, FORMATS.format(".txt")),
    ("bare", 2, FORMATS.format("")),
    ("m/link.jsonl", 1, "begins with 'RIFF$\\x00\\x00\\x00WAVEfmt ', expected scores or nothing; give another --out"),
    ("more.JSONL", 1, "expected scores or nothing; give another --out"),
    ("table.csv", 1, "begins with 'id,mi,ta\\n', expected a table of scores; give another --out"),
]


@pytest.mark.parametrize(("name", "code", "message"), KINDS)
@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_only_scores_are_replaced(music, name, code, message, options):
    contents = {
        "m/a.wav": b"RIFF\x24\0\0\0WAVEfmt ",
        "notes.txt": b"notes",
        "bare": b"notes",
        "table.csv": b"id,mi,ta\n",
        "more.JSONL": b'{"id": "a", "path": "m/a.wav", "prompt": "slow piano"}\n',
    }
    for each, content in contents.items():
        (music / each).write_bytes(content)
    (music / "m/link.jsonl").symlink_to("a.wav")
    result = score("m", "--out", name, *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr.splitlines()[-1]
    assert {each: (music / each).read_bytes() for each in contents} == contents
    assert FakeScorer.asked is None


def test_what_cannot_be_loaded_replaces_nothing(music, monkeypatch):
    score("m/a.wav", "--out", "s.jsonl")
    before = (music / "s.jsonl").read_bytes()

    def broken(*_, **__):
        raise OSError("no such bundle")

    monkeypatch.setattr(FakeScorer, "__init__", broken)
    assert fail("score", "m", "--bundle", "model", "--out", "s.jsonl", "--overwrite") == "Error: no such bundle"
    assert (music / "s.jsonl").read_bytes() == before


def test_a_table_with_failed_clips_is_run_again_as_it_is(music):
    for options, command in ((), "run it again"), (("--overwrite",), "run it again without --overwrite"):
        result = score("m/a.wav", "gone.wav", "--out", "s.csv", *options)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1].endswith(f"; correct them and {command}, which tries only them")
    (music / "gone.wav").touch()
    result = score("m/a.wav", "gone.wav", "--out", "s.csv")
    assert (result.exit_code, FakeScorer.scored) == (0, ("a", "gone", "a", "gone", "gone"))


# Processes

# Runs the command line with a slow scorer, without torch, which takes seconds to load.
PROCESS = """
import signal, sys, time
from types import SimpleNamespace
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
entry = {"name": "model", "digest": "ab" * 16, "windows": "mean of 30 s", "licence": "mit"}
class Slow:
    entries, untrained, about = {"model": entry}, (), lambda _: ["Made up."]
    targets = (SimpleNamespace(name="mi", hears_prompt=False), SimpleNamespace(name="ta", hears_prompt=True))
    is_calibrated = True
    def __init__(self, *_, **__):
        pass
    def score_items(self, items):
        from audiomos_cache.scoring.results import Score
        for item in items:
            time.sleep(float(sys.argv[1]))
            error = f"{item.path}: no such file" if item.id == "gone" else None
            mi = None if error else 3.0
            scores = {"mi": mi, "ta": None, "mi_spread": None, "ta_spread": None}
            yield Score(item.id, str(item.path), item.prompt, mi, scores=scores, error=error)
sys.modules["audiomos_cache.scoring.scorer"] = SimpleNamespace(Scorer=Slow)
sys.modules["audiomos_cache.bundle.load"] = SimpleNamespace(load_bundle=lambda name: SimpleNamespace(
    label=name, digest="ab" * 16, licence="mit", targets=Slow.targets[:2],
    input=SimpleNamespace(window="first", padding="masked", max_seconds=30.0),
))
sys.modules["torch"] = SimpleNamespace(Tensor=type(None), cuda=SimpleNamespace(is_available=lambda: False))
from audiomos_cache.__main__ import main
main(["score", "--bundle", "model", *sys.argv[2:]])
"""


LOADING = "loading the bundle model ...\n"


def start(seconds, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
    """Start the command with a scorer that takes so long for each clip."""
    command = [sys.executable, "-c", PROCESS, str(seconds), *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=CHECKOUT)


def shown_on(terminal):
    """All that was written to a terminal whose other end is closed, without what moves its cursor."""
    shown = b""
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:  # how Linux says that it is closed
        pass
    os.close(terminal)
    return re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown.decode())


def wait_for(path, lines):
    end = time.monotonic() + 20
    while not (path.exists() and path.read_bytes().count(b"\n") >= lines):
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def many(music):
    """A manifest of 300 clips."""
    path = music / "many.jsonl"
    path.write_text("".join(json.dumps({"path": f"{n}.wav", "prompt": "x" * 100}) + "\n" for n in range(300)))
    return path


@pytest.mark.process
def test_interrupted_it_keeps_what_is_finished_and_goes_on(music, many):
    out, done = music / "s.jsonl", 0
    for end, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        with start(0.005, "--manifest", many, "--out", out) as process:
            wait_for(out, done + 10)
            process.send_signal(end)
            stdout, stderr = process.communicate()
        assert (process.returncode, stdout) == (code, b"")
        if end == signal.SIGINT:
            assert stderr.splitlines()[-1] == b"Interrupted. What was finished is kept."
        assert done < len(rows(out.read_text())) < 300
        done = len(rows(out.read_text()))
    with start(0, "--manifest", many, "--out", out) as process:
        stderr = process.communicate()[1].decode().splitlines()
    assert (process.returncode, stderr[1]) == (0, f"{done} of 300 done before")
    assert [row["id"] for row in rows(out.read_text())] == [str(number) for number in range(300)]
    assert sorted(path.name for path in music.iterdir()) == ["m", "many.jsonl", "s.jsonl"]


@pytest.mark.process
def test_a_second_process_is_refused(music, many):
    out = music / "s.jsonl"
    with start(0.01, "--manifest", many, "--out", out) as process:
        wait_for(out, 1)
        line = fail("score", "--bundle", "model", "--manifest", many, "--out", out, "--overwrite")
        assert line.startswith(f"Error: {out}: is being written by process {process.pid} on ")
        process.kill()
    assert len(rows(out.read_text())) > 0


@pytest.mark.process
def test_a_reader_that_has_gone_ends_it_quietly(many):
    with start(0, "--manifest", many) as process:
        assert json.loads(process.stdout.readline())["id"] == "0"
        process.stdout.close()
        stderr = process.stderr.read()
    assert (process.returncode, stderr) == (1, LOADING.encode())


@pytest.mark.process
def test_a_full_disk_under_stdout_is_named(many):
    with Path("/dev/full").open("wb") as full, start(0, "--manifest", many, stdout=full) as process:
        stderr = process.stderr.read().decode()
    assert stderr == LOADING + (
        "Error: stdout: cannot be written: No space left on device; make room there, or give --out, a file that the "
        "command can resume\n"
    )
    assert process.returncode == 1


@pytest.mark.process
def test_interrupted_on_stdout_the_lines_are_whole(many):
    with start(0.01, "--manifest", many) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, f"{LOADING}Interrupted. What was finished is kept.\n".encode())
    found = rows((first + rest).decode())
    assert [row["id"] for row in found] == [str(number) for number in range(len(found))]


@pytest.mark.process
def test_with_a_bar_on_the_terminal_the_lines_still_go_to_stdout(music, many):
    terminal, other_end = pty.openpty()
    with (music / "lines").open("wb") as file, start(0.01, "--manifest", many, stdout=file, stderr=other_end):
        os.close(other_end)
        text = shown_on(terminal)
    assert [row["id"] for row in rows((music / "lines").read_text())] == [str(number) for number in range(300)]
    assert "/300 clips" in text and "{" not in text


@pytest.mark.process
def test_lines_on_a_terminal_have_no_bar_between_them(many):
    terminal, other_end = pty.openpty()
    with start(0, "--manifest", many, "--json", stdout=other_end, stderr=other_end):
        os.close(other_end)
        _, *lines, summary = shown_on(terminal).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [str(number) for number in range(300)]
    assert summary == "300 of 300 clips scored, 0 failed; mean MI 3.000"


@pytest.mark.process
def test_a_terminal_gets_a_table(music):
    names = ("song.wav", "folder/a-song-with-a-very-long-name-that-no-terminal-has-room-for-and-more.wav", "夜曲" * 20)
    clips = music / "m.jsonl"
    clips.write_text("".join(json.dumps({"path": name, "prompt": None}) + "\n" for name in names))
    terminal, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with start(0, "--manifest", clips, stdout=other_end, stderr=other_end):
        os.close(other_end)
        lines = shown_on(terminal).splitlines()
    assert lines[0] == LOADING.strip()
    assert lines[1].split() == ["file", "length", "MI", "heard"]
    assert [line.split()[1:] for line in lines[2:5]] == [["-", "3.00", "-"]] * 3
    assert [line.partition("  ")[0][-5:] for line in lines[2:5]] == ["g.wav", "e.wav", "曲夜曲夜曲"]
    assert {cell_len(line) for line in lines[2:5]} == {cell_len(lines[2])} and cell_len(lines[2]) < 80
    assert lines[5:] == [
        "",
        "Made up.",
        "TA needs the prompt: give the text that the music was made from as --prompt.",
        "3 of 3 clips scored, 0 failed; mean MI 3.000",
    ]


@pytest.mark.process
@pytest.mark.usefixtures("music")
def test_a_reason_is_in_the_table_and_not_again_in_the_last_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    terminal, other_end = pty.openpty()
    with start(0, "m/a.wav", "gone.wav", "--prompt", "x", stdout=other_end, stderr=other_end):
        os.close(other_end)
        lines = shown_on(terminal).splitlines()
    assert lines[1:] == [
        "file       length  MI    TA",
        "m/a.wav         -  3.00  -",
        "gone.wav        -  -     -",
        "    error: gone.wav: no such file",
        "",
        "Made up.",
        "There is no room for brackets here; a",
        "wider terminal shows them.",
        "1 of 2 clips scored, 1 failed; mean MI",
        "3.000",
        "Error: 1 of 2 clips could not be",
        "scored; correct them and score them",
        "again",
    ]


@pytest.mark.process
def test_help_has_examples_and_loads_nothing_heavy():
    code = (
        "import sys; from audiomos_cache.cli import main; main(['score', '--help'], standalone_mode=False);"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'h5py', 'transformers', 'numpy', 'rich'}))"
    )
    command = [sys.executable, "-c", code]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT).stdout.splitlines()
    assert lines[-1] == "[]"
    assert sum(line.startswith("    audiomos-cache score ") for line in lines) == 3
