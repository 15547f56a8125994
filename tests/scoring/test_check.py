"""Bundles of known behaviour: what falls, rises, stays, is deaf or broken is told apart."""

import numpy as np
import pytest
import soundfile
import torch

from audiomos_cache.audio.resample import resample
from audiomos_cache.errors import ArgumentError, DataError
from audiomos_cache.scoring.check import check_bundle, check_items
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.scoring.versions import UNRELATED, items_to_check, made_up_items, other_prompts
from tests.support.check import MI, RATE_HZ, TA, KnownScorer, TrainedInName, likeness, music
from tests.support.fitted import fitted_bundle, negate
from tests.support.scoring import make_bundle

CLIPS = [music(4, seed) for seed in range(3)]
GIVEN = [(RATE_HZ, clip) for clip in CLIPS]
LIKE = likeness(CLIPS)
PROMPTS = ["slow piano", "fast drums", "rain"]


def good(samples, _prompt):
    return 1 + 4 * LIKE(samples)


def fits(samples, prompt):
    """TA: whether the prompt is that of the clip that this was made of."""
    nearest = max(range(3), key=lambda index: float(np.corrcoef(samples, CLIPS[index])[0, 1]))
    return None if prompt is None else 4.0 if prompt == PROMPTS[nearest] else 2.0


def verdicts(check, target="mi"):
    return {row.ladder: row.verdict for row in check.rows if row.target == target}


def test_a_scorer_of_quality_passes():
    scorer = KnownScorer({"mi": good, "ta": fits}, (MI, TA))
    check = check_bundle(scorer, GIVEN, PROMPTS)
    assert check.passed, check
    assert set(verdicts(check).values()) == {"falls as expected", "unmoved, as expected"}
    assert verdicts(check, "ta")["shuffled prompts"] == "falls as expected"
    assert len(scorer.heard) == 3 * (1 + 3 + 3 + 3 + 1 + 1)
    [change] = next(row for row in check.rows if (row.target, row.ladder) == ("ta", "shuffled prompts")).changes
    assert (change.mean, change.fell, change.clips) == (-2, 3, 3)


def test_changes_are_of_each_clip_and_its_own_versions():
    scorer = KnownScorer({"mi": good})
    noise = check_bundle(scorer, GIVEN).rows[0]
    versions = [samples for samples, _ in scorer.heard]
    per_clip = len(versions) // 3
    expected = [good(versions[i * per_clip + 3], None) - good(CLIPS[i], None) for i in range(3)]
    assert noise.strongest.mean == pytest.approx(np.mean(expected))
    assert noise.strongest.rung == 0


def test_an_inverted_scorer_is_caught():
    check = check_bundle(KnownScorer({"mi": lambda samples, _: 5 - 4 * LIKE(samples)}), GIVEN)
    assert not check.passed
    assert len(check.failures) == 3
    assert all("(INVERTED)" in each and "rises by" in each for each in check.failures)


def test_a_constant_scorer_fails():
    check = check_bundle(KnownScorer({"mi": lambda *_: 3.0}), GIVEN)
    assert check.failures == [f"MI under {name}: no effect" for name in ("noise", "low-pass", "clipping")]


def test_a_scorer_that_does_not_hear_the_prompt_is_named():
    check = check_bundle(KnownScorer({"mi": good, "ta": good}, (MI, TA)), GIVEN, PROMPTS)
    assert check.failures == ["TA under shuffled prompts: does not hear the prompt"]


def test_a_scorer_whose_quality_moves_with_the_prompt_is_named():
    def led(samples, prompt):
        return good(samples, None) - 0.01 * len(prompt)

    check = check_bundle(KnownScorer({"mi": led, "ta": fits}, (MI, TA)), GIVEN, PROMPTS)
    assert check.failures == ["MI under shuffled prompts: moves with the prompt"]


def test_versions_without_a_score_are_named_and_decide_nothing():
    def broken(samples, _prompt):
        if LIKE(samples) < 0.9:
            raise ValueError("gives\nNaN")
        return good(samples, None)

    check = check_bundle(KnownScorer({"mi": broken}), GIVEN)
    assert (check.outcome, verdicts(check)["noise"]) == ("not decided", "not scored")
    assert check.problems[0] == "0, noise 0 dB SNR: gives NaN"
    nan = check_bundle(
        KnownScorer({"mi": lambda samples, _: good(samples, None) if LIKE(samples) > 0.9 else np.nan}), GIVEN
    )
    assert (nan.outcome, verdicts(nan)["noise"]) == ("not decided", "not scored")


def test_without_prompts_what_hears_them_is_not_scored():
    check = check_bundle(KnownScorer({"mi": good, "ta": fits}, (MI, TA)), GIVEN)
    assert check.passed
    assert set(verdicts(check, "ta").values()) == {"not scored"}
    assert "shuffled prompts" not in verdicts(check)
    assert "TA: not scored; if it hears prompts, give them" in check.lines()
    assert "shuffled prompts: no clip has a prompt; give them" in check.lines()


def test_where_no_target_hears_prompts_it_says_why_none_are_shuffled():
    check = check_bundle(KnownScorer({"mi": good}), GIVEN, PROMPTS)
    assert "shuffled prompts" not in verdicts(check)
    assert "shuffled prompts: no target hears prompts" in check.lines()
    assert check_bundle(KnownScorer({"mi": good, "ta": fits}, (MI, TA)), GIVEN, PROMPTS).no_prompts == ""


def test_each_prompt_is_replaced_by_another():
    assert other_prompts(["a", "b", "a"]) == ["b", "a", "b"]
    assert other_prompts(["a", None, "b"]) == ["b", None, "a"]
    assert other_prompts(["a", "a"]) == [UNRELATED[0], UNRELATED[1]]
    assert other_prompts([None, None]) == [None, None]
    assert len(set(UNRELATED)) == 4


def test_only_the_middle_of_a_clip_is_heard_at_one_rate():
    long = np.concatenate([music(3, 5), music(10, 6), music(3, 7)])
    scorer = KnownScorer({"mi": lambda *_: 3.0})
    check_bundle(scorer, [(RATE_HZ, long)])
    assert np.array_equal(scorer.heard[0][0], music(10, 6))
    stereo = np.stack([music(4, 5), music(4, 6)], axis=1)
    scorer.heard.clear()
    check_bundle(scorer, [(16_000, stereo)])
    assert np.allclose(scorer.heard[0][0], resample(stereo.mean(axis=1), 16_000, RATE_HZ), atol=1e-6)


def test_clips_that_cannot_be_heard_are_left_out_with_their_reason(tmp_path):
    files = {
        "good.wav": music(4, 0),
        "silent.wav": np.zeros(RATE_HZ),
        "short.wav": music(0.2, 0),
        "two.wav": music(2, 0),
    }
    for name, samples in files.items():
        soundfile.write(tmp_path / name, samples, RATE_HZ)
    clips = [*(tmp_path / name for name in files), tmp_path / "none.wav"]
    check = check_bundle(KnownScorer({"mi": lambda samples, _: float(np.ptp(samples))}), clips)
    assert check.clips == 2
    assert check.left_out == {
        "silent": f"{tmp_path}/silent.wav: silent, peak 0, expected music; check the clip",
        "short": "0.20 s long, expected 0.5 s or more; give a longer clip",
        "none": f"{tmp_path}/none.wav: file not found, expected an audio file; add it, or remove it from the list",
    }
    assert check.too_short == ("two",)
    with pytest.raises(DataError, match=r"^no clip to check with: silent: .*silent, peak 0.*; give music$"):
        check_bundle(KnownScorer({"mi": good}), [tmp_path / "silent.wav"])
    with pytest.raises(DataError, match=r"^no clip to check with: none was given; give music$"):
        check_bundle(KnownScorer({"mi": good}), [])


def test_a_clip_whose_original_has_no_score_is_left_out():
    def second_fails(samples, _prompt):
        if np.array_equal(samples, CLIPS[1]):
            raise ValueError("no score")
        return good(samples, None)

    check = check_bundle(KnownScorer({"mi": second_fails}), GIVEN)
    assert (check.clips, check.left_out) == (2, {"1": "no score"})


def test_progress_ends_at_all_of_them():
    reports = []
    clips = [*GIVEN, (RATE_HZ, np.zeros(RATE_HZ, np.float32))]
    check_bundle(KnownScorer({"mi": good}), clips, progress=lambda *report: reports.append(report))
    assert reports[0] == ("check", 1, 44) and reports[-1] == ("check", 44, 44)


def test_clips_are_files_folders_and_manifests(tmp_path):
    for name in ("a.wav", "m/b.wav", "m/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, music(1, 0), RATE_HZ)
    (tmp_path / "list.csv").write_text("path,prompt\na.wav,slow piano\n")
    found = items_to_check([tmp_path / "a.wav", tmp_path / "m"], "x")
    assert [(item.id, item.prompt) for item in found] == [("a", "x"), ("b", "x"), ("c", "x")]
    [item] = items_to_check([tmp_path / "list.csv"], None)
    assert (item.id, item.prompt) == ("a", "slow piano")
    with pytest.raises(ArgumentError, match=r"^--prompt goes without .*list\.csv, whose rows have their own$"):
        items_to_check([tmp_path / "list.csv"], "x")


def test_options_of_a_scorer_that_is_loaded_are_refused():
    with pytest.raises(ArgumentError, match=r"^device: options of a scorer, and one was given; make it with them$"):
        check_bundle(KnownScorer({"mi": good}), GIVEN, device="cpu")


def test_one_clip_neither_passes_nor_fails():
    for sign in (1, -1):
        check = check_bundle(KnownScorer({"mi": lambda samples, _, sign=sign: 3 + sign * LIKE(samples)}), GIVEN[:1])
        assert (check.outcome, check.failures) == ("not decided", [])


def test_how_much_will_be_scored_is_said_before(caplog):
    with caplog.at_level("INFO"):
        check_bundle(KnownScorer({"mi": good}), GIVEN[:1])
    assert caplog.messages == ["checking the scores: up to 11 versions of 1 clip to score ..."]


def test_made_up_music_is_of_several_kinds_with_their_prompts():
    items = made_up_items()
    assert len({item.text for item in items}) == 8
    assert all(item.audio.duration_s == 10 for item in items)
    check = check_items(KnownScorer({"mi": lambda samples, _: float(np.ptp(samples))}), items, music="made-up music")
    assert (check.clips, check.left_out, check.problems) == (8, {}, ())


@pytest.mark.parametrize("pad_to_s", [5.0, None])
def test_heads_of_random_weights_on_an_untrained_encoder_fail(audio, text, pad_to_s):
    scorer = Scorer(make_bundle(audio, text, pad_to_s=pad_to_s), audio_encoder=audio, text_encoder=text, device="cpu")
    check = check_bundle(scorer, GIVEN, PROMPTS)
    assert check.untrained == ("muq-tiny", "roberta-tiny")
    assert check.failures[0] == "the encoders are untrained (muq-tiny and roberta-tiny), so scores mean nothing"
    assert verdicts(check)["shuffled prompts"] == "unmoved, as expected", "MI does not hear it"
    assert (check.digest,) == scorer.digests


def test_heads_whose_last_layers_are_zero_fail_on_any_encoder(audio, text):
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    with torch.no_grad():
        for member in bundle.members:
            for parameter in member.head.parameters():
                parameter.zero_()
    scorer = Scorer(bundle, audio_encoder=TrainedInName(audio), text_encoder=TrainedInName(text), device="cpu")
    check = check_bundle(scorer, GIVEN, PROMPTS)
    assert check.untrained == ()
    assert check.failures == [
        *(f"MI under {name}: no effect" for name in ("noise", "low-pass", "clipping")),
        "TA under shuffled prompts: does not hear the prompt",
    ]


@pytest.mark.slow
def test_through_encoder_and_head_an_inverted_bundle_is_caught(audio, text):
    bundle = fitted_bundle(audio, text, lambda seed: music(1, seed))
    encoders = {"audio_encoder": TrainedInName(audio), "text_encoder": TrainedInName(text), "device": "cpu"}
    check = check_bundle(Scorer(bundle, **encoders), GIVEN)
    assert check.passed, check
    negate(bundle)
    inverted = check_bundle(Scorer(bundle, **encoders), GIVEN)
    assert inverted.outcome == "failed"
    assert [row.verdict.partition(":")[0] for row in inverted.rows[:3]] == 3 * ["INVERTED"]
    for row, other in zip(check.rows[:4], inverted.rows[:4], strict=True):
        assert other.strongest.mean == pytest.approx(-row.strongest.mean, abs=1e-4)
