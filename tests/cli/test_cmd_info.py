"""`info --check` as a user runs it: what it prints, its exit codes, and what it refuses."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from audiomos_cache.cli import main
from tests.support.check import MI, RATE_HZ, TA, KnownScorer, likeness, music
from tests.support.commands import fail
from tests.support.terminal import Terminal

CLIPS = {f"clip{index}": music(3, index) for index in range(3)}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Clips in `m`, and every bundle is a scorer of quality; gives what the last one was made with.

    Of a bundle called `inverted`, MI is upside down.
    """
    (tmp_path / "m").mkdir()
    for name, samples in CLIPS.items():
        soundfile.write(tmp_path / "m" / f"{name}.wav", samples, RATE_HZ, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    found = {}
    like = likeness(list(CLIPS.values()))

    def make(bundle, **options):
        found.update(bundle=bundle, **options)
        sign = -1 if bundle == "inverted" else 1
        scores = {
            "mi": lambda samples, _: 3 + sign * 2 * like(samples),
            "ta": lambda _, prompt: None if prompt is None else 4.0 if prompt == "slow piano" else 2.0,
        }
        return KnownScorer(scores, (MI, TA))

    monkeypatch.setitem(sys.modules, "audiomos_cache.scoring.scorer", SimpleNamespace(Scorer=make))
    return found


def check(*arguments, code=0):
    result = CliRunner().invoke(main, ["info", *arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.stdout


ALL = [f"m/clip{index}.wav" for index in range(3)]


def test_it_prints_a_line_a_table_and_the_verdict(asked):
    lines = check("model", "--check", *ALL, "--prompt", "slow piano").splitlines()
    assert asked == {"bundle": "model"}
    assert lines[0].startswith("MI: noise -") and lines[0].endswith("  shuffled prompts TA -2.00")
    assert lines[4:6] == ["MI", next(line for line in lines if line.startswith("  noise "))]
    assert lines[5].endswith("3/3  falls as expected")
    assert "  shuffled prompts              -2.00  ± 0.00     3/3  falls as expected" in lines
    assert lines[-1] == "Passed: MI falls under noise, low-pass and clipping, TA under other prompts (3 clips)."
    assert max(map(len, lines[1:-1])) < 80


@pytest.mark.usefixtures("asked")
def test_a_terminal_of_80_columns_is_enough(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    wide = check("model", "--check", "m")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    from audiomos_cache.cli.options import echo

    echo(wide.rstrip("\n"))
    narrow = terminal.getvalue().splitlines()
    assert max(map(len, narrow)) < 80
    assert [line for line in wide.splitlines() if line.startswith("  ")] == [
        line for line in narrow if line.startswith("  ")
    ], "no row is broken"


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "--check", *ALL),
        ("model", *(each for path in ALL for each in ("--check", path))),
        ("--check", ALL[0], "model", *ALL[1:]),
        ("model", "--check", "m"),
    ],
)
def test_clips_are_given_in_any_way(arguments):
    found = json.loads(check(*arguments, "--json"))
    assert (found["clips"], found["bundle"], found["outcome"]) == (3, "model", "passed")


@pytest.mark.usefixtures("asked")
def test_where_it_fails_the_exit_code_is_3():
    shown = check("inverted", "--check", *ALL, code=3)
    assert shown.splitlines()[-1].startswith("FAILED: MI rises by ")
    assert shown.splitlines()[-1].endswith("check the encoder's weights and the audio.")
    found = json.loads(check("inverted", "--check", *ALL, "--json", code=3))
    assert (found["passed"], found["outcome"]) == (False, "failed")
    assert found["targets"]["mi"]["noise"]["verdict"].startswith("INVERTED: rises by ")


def test_options_go_to_the_scorer(asked):
    encoders = ("--audio-encoder", "muq", "--text-encoder", "roberta", "--device", "cpu")
    check("owner/name@v1", "--check", "m", *encoders)
    assert asked == {"bundle": "owner/name@v1", "audio_encoder": "muq", "text_encoder": "roberta", "device": "cpu"}


@pytest.mark.usefixtures("asked")
def test_bad_clips_are_named_and_the_others_are_heard():
    soundfile.write("m/silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write("m/brief.wav", music(0.2, 0), RATE_HZ)
    lines = check("model", "--check", "m", "nowhere.wav").splitlines()
    assert [line for line in lines if line.startswith("left out: ")] == [
        "left out: brief: 0.20 s long, expected 0.5 s or more; give a longer clip",
        "left out: silent: m/silent.wav: silent, peak 0, expected music; check the clip",
        "left out: nowhere: nowhere.wav: file not found, expected an audio file; add it, or remove it from the list",
    ]
    assert lines[-1].endswith(" (3 clips).")


@pytest.mark.usefixtures("asked")
def test_one_clip_is_a_hint():
    shown = check("model", "--check", ALL[0], code=3)
    assert "±" in shown.splitlines()[3] and "±" not in "".join(shown.splitlines()[4:])
    assert shown.splitlines()[5].endswith("1/1  hint: falls (1 clip)")
    assert "noise -0.58 (hint)  low-pass " in shown.splitlines()[0]
    assert shown.splitlines()[-1] == "Not decided: 1 clip can only hint at it, give 3 or more."
    found = json.loads(check("model", "--check", ALL[0], "--json", code=3))
    assert (found["passed"], found["outcome"], found["failures"]) == (False, "not decided", [])


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("model", "--check", "nowhere.wav"),
            "no clip to check with: nowhere: nowhere.wav: file not found, expected an",
        ),
        (("model", "--check", "empty"), "empty: no audio in it, expected files named .wav,"),
    ],
)
def test_without_music_it_is_an_error(tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    assert said in fail("info", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("model", "clip.wav"), "'clip.wav': expected one PATH; clips come with --check"),
        (("--check", "clip.wav"), "--check takes a bundle and clips: audiomos-cache info BUNDLE --check song.wav"),
        (("bundles", "--check", "clip.wav"), "--check takes a bundle and clips"),
        (("model", "--prompt", "x"), "prompt: of a check alone; give --check too, or leave it out"),
        (("model", "--device", "cpu"), "device: of a check alone"),
    ],
)
def test_what_is_of_a_check_alone_is_wrong_usage_without_one(arguments, said):
    result = CliRunner().invoke(main, ["info", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    assert fail("info", tmp_path, "--check", "song.wav").startswith(f"Error: {tmp_path}: no bundle.yaml in it")
