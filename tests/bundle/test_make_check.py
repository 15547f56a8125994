"""What the card says of the check, and that no bundle is refused, or another one, because of it."""

import logging

import numpy as np
import pytest
import soundfile

from audiomos_cache.bundle.card import check_section
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.bundle.published import make_published_bundle
from audiomos_cache.errors import DataError
from audiomos_cache.registry import register
from audiomos_cache.scoring.check_report import Check
from audiomos_cache.scoring.ladders import NOISE
from audiomos_cache.scoring.verdicts import Change, judge
from audiomos_cache.targets import Target
from audiomos_cache.testing.fakes import FakeTextEncoder
from tests.support.check import RATE_HZ, music
from tests.support.commands import run
from tests.support.training import WideAudioEncoder, files_in

ADVICE = " Do not compare systems by these scores; check the encoder's weights and the audio."
UNTRAINED = "FAILED: the encoders are untrained (fake-audio and fake-text), so scores mean nothing"


@pytest.fixture
def encoders(request):
    """The encoders that the runs were trained with can be loaded here by their names."""
    request.getfixturevalue("fresh_registry")
    register("audio_encoder", "fake-audio")(lambda _source, **_: WideAudioEncoder())
    register("text_encoder", "fake-text")(lambda _source, **_: FakeTextEncoder())


def section(folder):
    card = (folder / "README.md").read_text()
    return card.split("## Can it be trusted?\n\n")[1].split("\n\n## ")[0]


@pytest.mark.usefixtures("encoders")
def test_the_card_has_the_check_by_made_up_music(made, tmp_path):
    reports = []
    found = make_bundle(made.runs, tmp_path / "model", made.fused("ridge"), progress=lambda *each: reports.append(each))
    text = section(tmp_path / "model")
    assert found.check.verdict().startswith(UNTRAINED) and found.check.clips == 8
    assert text.startswith(f"**{UNTRAINED}")
    assert "the middle 10 s of 8 clips of made-up music, made worse" in text
    assert "Rungs: noise 20, 10, 0 dB SNR; low-pass 4, 2, 1 kHz; clipping 6, 12, 24 dB." in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(("| MI", "| TA"))]
    assert [row[1] for row in rows] == 2 * ["noise", "low-pass", "clipping", "shuffled segments", "shuffled prompts"]
    assert rows[4][-1] == "unmoved, as expected |"
    assert text.endswith("By music of your own: `audiomos-cache info model/ --check song.wav`.")
    assert found.lines()[-2] == f"check: {found.check.verdict()}"
    assert found.to_dict()["check"]["passed"] is False
    assert reports[-1][1:3] == (96, 96)


@pytest.mark.usefixtures("encoders")
def test_the_bundle_is_the_same_with_and_without_a_check_and_the_card_twice(made, tmp_path):
    checked, again, without = (
        files_in(make_bundle(made.runs, tmp_path / name, made.fused("ridge"), check=check).folder)
        for name, check in (("a", True), ("b", True), ("c", False))
    )
    assert checked == again
    assert checked.pop("README.md") != without.pop("README.md")
    assert checked == without
    assert section(tmp_path / "c").startswith("Not checked when this bundle was made.\n")


@pytest.mark.usefixtures("encoders")
def test_clips_of_the_makers_are_heard_with_their_prompts(made, tmp_path):
    for name in ("a", "b", "c", "short"):
        soundfile.write(tmp_path / f"{name}.wav", music(0.2 if name == "short" else 3, ord(name[0])), RATE_HZ)
    (tmp_path / "list.csv").write_text("path,prompt\na.wav,x\nb.wav,slow piano\nc.wav,one two three\nshort.wav,x\n")
    found = make_bundle(made.runs[:1], tmp_path / "model", check=tmp_path / "list.csv").check
    assert (found.clips, found.music) == (3, None)
    text = section(tmp_path / "model")
    assert "the middle 10 s of 3 clips, made worse" in text
    assert "\n\nClips that could not be heard: 1.\n\n" in text
    assert str(tmp_path) not in text and "short" not in text, "what is of the maker's alone"
    assert "| TA | shuffled prompts |" in text


def test_encoders_that_are_not_here_are_a_warning(made, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = make_bundle(made.runs[:1], tmp_path / "model")
    assert found.check == "the encoders could not be loaded"
    assert found.lines()[-2] == "not checked: the encoders could not be loaded"
    assert (
        "not checked: the bundle was made with fake-audio, which no code here makes; give --audio-encoder a folder "
        "with the same weights"
    ) in caplog.messages
    assert section(tmp_path / "model").startswith(
        "Not checked when this bundle was made: the encoders could not be loaded.\n\nBy music of your own: "
    )


def test_clips_of_which_none_can_be_heard_are_an_error_before_anything_is_made(made, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    with pytest.raises(
        DataError, match=r"^no clip to check with: silent: .*silent\.wav: silent, peak 0.*; give music$"
    ):
        make_bundle(made.runs[:1], tmp_path / "model", check=[tmp_path / "silent.wav"])
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("published", [False, True])
def test_a_path_that_is_not_there_is_an_error_before_anything_is_made(made, tmp_path, published):
    soundfile.write(tmp_path / "song.wav", music(3, 0), RATE_HZ)
    clips = [tmp_path / "song.wav", tmp_path / "nope.wav"]
    with pytest.raises(DataError) as error:
        if published:
            make_published_bundle("muq-eval-a1", tmp_path, tmp_path / "model", check=clips)
        else:
            make_bundle(made.runs[:1], tmp_path / "model", check=clips)
    expected = f"--check {tmp_path}/nope.wav: not found, expected music; give clips, folders or manifests"
    assert str(error.value) == expected
    assert not (tmp_path / "model").exists()


@pytest.mark.usefixtures("encoders")
def test_a_clip_that_cannot_be_heard_beside_others_is_left_out(made, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write(tmp_path / "song.wav", music(3, 0), RATE_HZ)
    found = make_bundle(made.runs[:1], tmp_path / "model", check=[tmp_path / "silent.wav", tmp_path / "song.wav"])
    assert (found.check.clips, list(found.check.left_out)) == (1, ["silent"])


@pytest.mark.usefixtures("encoders")
def test_clips_that_the_bundle_cannot_score_are_a_warning(made, tmp_path, monkeypatch, caplog):
    def refuse(*_args, **_options):
        raise DataError("no clip to check with: too short")

    monkeypatch.setattr("audiomos_cache.scoring.check.check_items", refuse)
    assert make_bundle(made.runs[:1], tmp_path / "model").check == "no clip could be scored"
    assert "not checked: no clip to check with: too short" in caplog.messages
    assert (tmp_path / "model" / "bundle.yaml").exists()


@pytest.mark.usefixtures("encoders")
def test_how_much_will_be_scored_is_said_before(made, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        make_bundle(made.runs[:1], tmp_path / "model", progress=lambda *_: caplog.records.append("progress"))
    line = "checking the scores: up to 96 versions of 8 clips of made-up music to score; --no-check leaves it out ..."
    told = [each if isinstance(each, str) else each.getMessage() for each in caplog.records]
    assert told.index(line) < told.index("progress")


def test_a_folder_without_audio_is_an_error_before_anything_is_made(made, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no audio in it"):
        make_bundle(made.runs[:1], tmp_path / "model", check=tmp_path / "empty")
    assert not (tmp_path / "model").exists()


def test_names_stay_text_in_the_card():
    row = judge(Target("# <b>[x](y)|"), NOISE, [Change.of(rung, [-1.0]) for rung in NOISE.rungs], is_main=True)
    text = check_section(Check("d" * 32, 1, None, (row,), untrained=("<i>",)))
    assert "| \\# &lt;b&gt;\\[x\\](y)\\| | noise | -1.00, -1.00, -1.00 |" in text
    assert "<b>" not in text and "<i>" not in text and "<b>" not in check_section("no <b>")


@pytest.mark.usefixtures("encoders")
def test_the_command_checks_by_the_clips_that_it_is_given(made, tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", music(3, ord(name)), RATE_HZ)
    clips = [each for name in ("a", "b") for each in ("--check", tmp_path / f"{name}.wav")]
    lines = run("bundle", made.runs[0], "--out", tmp_path / "model", *clips).splitlines()
    assert lines[-2].startswith(f"check: {UNTRAINED}") and lines[-2].endswith(ADVICE)
