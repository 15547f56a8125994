"""A clip's score: the same as through a cache, whatever it is scored with, and honest about what is odd."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.errors import BundleError, CacheError, ConfigError, DataError, EncoderError
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.model import Head
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.frame_sources import FramesOnDisk
from audiomos_cache.training.loop import predictions_of, run_head
from tests.support.scoring import PROMPTS, MakeScorer, make_bundle, music, wav


def through_a_cache(
    clips: list[Path], folder: Path, audio: AudioEncoder, text: TextEncoder, heads: list[Head], **options: Any
) -> list[Predictions]:
    """What extract and predict say, member by member, in the order of the clips' names."""
    listed = [
        Clip(path.stem, path, "S1", path.stem, prompt, "new", None, None)
        for path, prompt in zip(clips, PROMPTS, strict=True)
    ]
    extract_split(listed, folder, audio, text, ExtractionOptions(batch_size=3, **options))
    batches = FeatureBatches(ClipSet.of_split(folder, "new"), audio.layers, FramesOnDisk(torch.device("cpu")))
    return [predictions_of(run_head(head, batches), batches) for head in heads]


def values(scores: list[Score], target: str) -> NDArray[np.float64]:
    return np.array([getattr(score, target) for score in scores], np.float64)


@pytest.mark.parametrize("options", [{"pad_to_s": 5.0}, {"pad_to_s": None}, {"pad_to_s": None, "dtype": "float32"}])
def test_a_score_is_that_of_extract_predict_and_fuse(
    clips: list[Path], tmp_path: Path, audio: AudioEncoder, text: TextEncoder, options: dict[str, Any]
) -> None:
    bundle = make_bundle(audio, text, **options)
    members = through_a_cache(clips, tmp_path / "cache", audio, text, [m.head for m in bundle.members], **options)
    scores = Scorer(bundle, audio_encoder=audio, text_encoder=text).score(clips, PROMPTS)
    for target in ("mi", "ta"):
        expected = np.mean([getattr(member, target) for member in members], axis=0)
        np.testing.assert_allclose(values(scores, target), expected, atol=1e-4)
        assert np.ptp(expected) > 1e-3, "the clips differ"


def test_a_score_does_not_depend_on_batch_order_or_neighbours(clips: list[Path], make_scorer: MakeScorer) -> None:
    alone = [make_scorer(pad_to_s=None).score([clip], [prompt])[0] for clip, prompt in zip(clips, PROMPTS, strict=True)]
    pairs = list(zip(clips, PROMPTS, strict=True)) * 2
    random.Random(1).shuffle(pairs)
    for batch_size in (1, 3, 64):
        together = make_scorer(pad_to_s=None, batch_size=batch_size).score(*map(list, zip(*pairs, strict=True)))
        expected = [alone[clips.index(clip)] for clip, _ in pairs]
        for target in ("mi", "ta"):
            np.testing.assert_allclose(values(together, target), values(expected, target), atol=1e-5)
        assert [score.id for score in together] == [clip.stem for clip, _ in pairs]


def test_without_a_prompt_there_is_mi_alone(clips: list[Path], make_scorer: MakeScorer) -> None:
    scorer = make_scorer(pad_to_s=5.0)
    with_prompt, without, blank = scorer.score([clips[0]] * 3, ["Fast drums", None, "  "])
    assert with_prompt.ta is not None
    assert without.mi == pytest.approx(with_prompt.mi, abs=1e-6)
    untrained = "untrained: the weights of muq-tiny are random, so the score means nothing"
    assert (without.ta, without.ta_interval, without.warnings) == (None, None, (untrained,))
    assert without.scores == {"mi": without.mi, "mi_spread": None, "ta": None, "ta_spread": None}
    assert (blank.ta, blank.warnings) == (None, (untrained, "prompt empty: MI alone"))
    assert without.mi_interval is not None
    assert [score.ta for score in scorer.score(clips[:2])] == [None, None]


def test_one_prompt_for_all_is_the_prompt_of_each(clips: list[Path], make_scorer: MakeScorer) -> None:
    scorer = make_scorer(pad_to_s=5.0)
    assert scorer.score(clips[:2], "Fast drums") == scorer.score(clips[:2], ["Fast drums", "Fast drums"])


def test_a_prompt_in_other_letters_is_scored_with_a_warning(clips: list[Path], make_scorer: MakeScorer) -> None:
    prompts = ["慢速钢琴曲", "a 古琴 melody"]
    foreign, english = make_scorer(pad_to_s=5.0).score(clips[:2], prompts)
    assert foreign.ta is not None
    (untrained,) = english.warnings
    assert foreign.warnings == (untrained, "prompt mostly in other letters than Latin, expected English")


def test_outer_blanks_of_a_prompt_do_not_count(clips: list[Path], make_scorer: MakeScorer) -> None:
    plain, blanks = make_scorer(pad_to_s=5.0).score([clips[0]] * 2, ["Fast drums", " Fast drums\n"])
    assert plain.ta == pytest.approx(blanks.ta, abs=1e-6)


def test_arrays_and_tensors_are_scored_as_files(clips: list[Path], make_scorer: MakeScorer) -> None:
    scorer = make_scorer(pad_to_s=5.0)
    samples, rate = soundfile.read(clips[1], dtype="float32", always_2d=True)
    of_file = scorer.score([clips[1]], ["rain"])[0]
    array, tensor = scorer.score([samples.T, torch.from_numpy(samples.T)], "rain", sample_rate=rate)
    for target in ("mi", "ta"):
        np.testing.assert_allclose(values([array, tensor], target), getattr(of_file, target), atol=1e-6)
    assert (array.id, array.path, tensor.id, array.duration_s) == ("0", None, "1", of_file.duration_s)
    mono = samples.mean(axis=1, dtype=np.float64)
    assert scorer.score([mono], ["rain"], sample_rate=rate)[0].mi == pytest.approx(of_file.mi, abs=1e-5)


def test_clips_of_other_libraries_are_scored_as_their_file(tmp_path: Path, make_scorer: MakeScorer) -> None:
    scorer, path = make_scorer(pad_to_s=5.0, batch_size=1), tmp_path / "song.wav"
    soundfile.write(path, music(4.0, 44100, channels=2), 44100, subtype="PCM_16")
    pcm, content = soundfile.read(path, dtype="int16")[0], path.read_bytes()
    of_file, *others = scorer.score(
        [path, (44100, pcm), (pcm.T / 32768, 44100), {"bytes": content, "path": "song.wav"}, content], "rain"
    )
    assert {(score.mi, score.ta, score.duration_s) for score in others} == {(of_file.mi, of_file.ta, 4.0)}
    assert [score.id for score in others] == ["1", "2", "song", "4"]


def test_what_is_no_clip_is_an_error_of_that_clip(clips: list[Path], make_scorer: MakeScorer) -> None:
    given: list[Any] = [clips[0], b"no audio", (44, music(3.0)), clips[1], None]
    scores = make_scorer(pad_to_s=5.0).score(given, "rain", on_error="return")
    assert [score.error is None for score in scores] == [True, False, False, True, False]
    assert scores[2].error == "clip 2: a sample rate of 44 Hz, expected 1000 to 1000000; 44 kHz is 44000"
    with pytest.raises(DataError, match=r"^clip 1: not audio, or damaged, expected a whole wav, "):
        make_scorer(pad_to_s=5.0).score(given, "rain")


def test_a_long_clip_is_the_mean_of_its_windows_by_length(make_scorer: MakeScorer) -> None:
    scorer = make_scorer(pad_to_s=5.0, factor=1.5)
    samples = music(12.5, 24000)[:, 0]
    parts = scorer.score(np.split(samples, [120000, 240000]), "rain", sample_rate=24000)
    long = scorer.score([samples], "rain", sample_rate=24000)[0]
    assert (long.windows, long.duration_s, long.heard) == (3, 12.5, (0.0, 12.5))
    assert [each for each in long.warnings if "untrained" not in each] == [], "several windows are no warning"
    shares = np.array([5, 5, 2.5]) / 12.5
    for target in ("mi", "ta"):
        scores = values(parts, target)
        mean = float(shares @ scores)
        assert getattr(long, target) == pytest.approx(mean, abs=1e-5)
        deviation = np.sqrt(shares @ (scores - mean) ** 2)
        assert long.scores[f"{target}_spread"] == pytest.approx(deviation, abs=1e-5)
        assert parts[0].scores[f"{target}_spread"] is None


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_a_rest_of_less_than_a_second_is_left_out_as_by_extract(
    tmp_path: Path, make_scorer: MakeScorer, audio: AudioEncoder, text: TextEncoder, rate: int
) -> None:
    clip = wav(tmp_path / "a.wav", 5.9, rate)
    scorer = make_scorer(pad_to_s=5.0)
    score = scorer.score([clip], [PROMPTS[0]])[0]
    assert (score.windows, score.scores["mi_spread"], score.heard) == (1, None, (0.0, 5.0))
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    others = [wav(tmp_path / f"b{i}.wav", 3.0) for i in range(4)]
    members = through_a_cache(
        [clip, *others], tmp_path / "cache", audio, text, [m.head for m in bundle.members], pad_to_s=5.0
    )
    assert score.mi == pytest.approx(np.mean([member.mi[0] for member in members]), abs=1e-4)


def test_intervals_are_as_wide_as_the_calibration_says(clips: list[Path], make_scorer: MakeScorer) -> None:
    narrow, wide = (make_scorer(pad_to_s=5.0, factor=f).score(clips[:1], "rain")[0] for f in (0.1, 0.2))
    for target in ("mi", "ta"):
        (low, high), (lower, higher) = (getattr(score, f"{target}_interval") for score in (narrow, wide))
        middle = getattr(narrow, target)
        assert (low + high) / 2 == pytest.approx(middle)
        assert higher - lower == pytest.approx(2 * (high - low))
    everything = make_scorer(pad_to_s=5.0, factor=100.0).score(clips[:1], "rain")[0]
    assert everything.mi_interval == (1.0, 5.0)


@pytest.mark.parametrize(
    ("samples", "warning"),
    [
        (music(4.0)[:, 0] * 20, "louder than full scale: a peak of "),
        (music(2.0)[:, 0], "shorter than 3 s: 2.00 s"),
        (np.clip(music(4.0)[:, 0] * 20, -1, 1), "clipped: "),
    ],
)
def test_odd_sounds_are_warned_of(samples: NDArray[Any], warning: str, make_scorer: MakeScorer) -> None:
    score = make_scorer(pad_to_s=5.0).score([samples], sample_rate=16000)[0]
    assert score.mi is not None
    own = [found for found in score.warnings if not found.startswith("untrained")]
    assert len(own) == 1 and own[0].startswith(warning)


def test_a_scorer_says_what_its_scores_mean(audio: AudioEncoder, text: TextEncoder) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    by = "Scored by model: mean of 3 heads on features of muq-tiny and roberta-tiny; heard in windows of 5 s, "
    for calibrations, brackets in (
        (bundle.calibrations, "In brackets: where that is for 80 % of clips like those of the calibration (measured: "
         "80 % of 100 clips for MI, 80 % of 100 clips for TA)."),
        ({}, "There are no intervals, as the bundle was not calibrated."),
    ):  # fmt: skip
        scorer = Scorer(replace(bundle, calibrations=calibrations), audio_encoder=audio, text_encoder=text)
        assert scorer.about() == [
            "MI: music impression, TA: text alignment, 1 to 5: the mean opinion of listeners.",
            brackets,
            f"{by}whose mean by length is the score.",
        ]


class Plain:
    """A user's encoder, which does not say whether it is trained, or says it of its class."""

    def __init__(self, encoder: object) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        if name == "untrained":
            raise AttributeError(name)
        return getattr(self._encoder, name)


class PlainUntrained(Plain):
    untrained = True


@pytest.mark.parametrize(("kinds", "named"), [((Plain, Plain), None), ((Plain, PlainUntrained), "roberta-tiny")])
def test_an_encoder_is_trained_unless_it_says_otherwise(
    kinds: tuple[type[Plain], type[Plain]], named: str | None, audio: AudioEncoder, text: TextEncoder
) -> None:
    own: list[Any] = [kind(encoder) for kind, encoder in zip(kinds, (audio, text), strict=True)]
    scorer = Scorer(make_bundle(audio, text, pad_to_s=5.0), audio_encoder=own[0], text_encoder=own[1])
    with_prompt, without = scorer.score([music(4.0)[:, 0]] * 2, ["rain", None], sample_rate=16000)
    assert without.warnings == ()
    assert with_prompt.warnings == (
        (f"untrained: the weights of {named} are random, so the score means nothing",) if named else ()
    )


@pytest.mark.parametrize(
    ("samples", "found"),
    [
        (np.zeros(64000), "silent, peak 0"),
        (np.full(64000, 0.5), "silent, peak 0"),
        (np.stack([music(4.0)[:, 0], -music(4.0)[:, 0]]), r"silent as mono, peak 0: its channels, peak 0\.\d, cancel"),
    ],
)
def test_silence_has_no_score(samples: NDArray[Any], found: str, make_scorer: MakeScorer) -> None:
    score = make_scorer(pad_to_s=5.0).score([samples], sample_rate=16000, on_error="return")[0]
    assert (score.mi, score.ta) == (None, None)
    assert re.match(f"clip 0: {found}.*, expected music; check the clip", score.error or "")


def test_a_cut_prompt_is_warned_of(clips: list[Path], make_scorer: MakeScorer) -> None:
    longest, longer = make_scorer(pad_to_s=5.0).score([clips[0]] * 2, ["a" * 126, "a" * 127])
    untrained = "untrained: the weights of muq-tiny and roberta-tiny are random, so the score means nothing"
    assert (longest.warnings, longer.warnings) == ((untrained,), (untrained, "prompt cut at 128 tokens"))
    assert longest.ta == pytest.approx(longer.ta, abs=1e-6)


def test_a_bad_file_has_an_error_and_the_others_a_score(
    clips: list[Path], tmp_path: Path, make_scorer: MakeScorer
) -> None:
    (tmp_path / "text.mp3").write_text("no music\n" * 99)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(9, np.nan), 16000, subtype="FLOAT")
    names = ["text.mp3", "empty.wav", "nan.wav", "none.wav"]
    items = [Item("good", clips[0], "rain"), *(Item(name, tmp_path / name, "rain") for name in names)]
    items.append(Item("last", clips[1], "rain"))
    good, *bad, last = make_scorer(pad_to_s=5.0, batch_size=2).score_items(items)
    assert (good.error, last.error) == (None, None)
    assert last.mi is not None
    expected = ("not audio, or damaged", "no samples", "9 NaN or infinite samples", "file not found")
    for score, reason, name in zip(bad, expected, names, strict=True):
        assert (score.id, score.path, score.mi, score.ta) == (name, str(tmp_path / name), None, None)
        assert score.error is not None
        assert reason in score.error
    with pytest.raises(DataError, match="not audio"):
        make_scorer(pad_to_s=5.0).score([clips[0], tmp_path / "text.mp3"])


def test_a_stream_is_scored_as_it_comes(clips: list[Path], make_scorer: MakeScorer) -> None:
    taken = []

    def stream() -> Any:
        for index in range(100):
            taken.append(index)
            yield clips[index % 5], "rain"

    scores = make_scorer(pad_to_s=5.0, batch_size=2).score_iter(stream())
    first = next(scores)
    assert first.id == "clip0"
    assert len(taken) <= 10
    scores.close()


def test_each_prompt_is_encoded_once(clips: list[Path], text: TextEncoder, audio: AudioEncoder) -> None:
    asked: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(text, name)

        def encode(self, prompts: list[str]) -> Any:
            asked.extend(prompts)
            return text.encode(prompts)

    bundle = make_bundle(audio, text, pad_to_s=5.0)
    Scorer(bundle, audio_encoder=audio, text_encoder=Counting(), batch_size=2).score(clips * 3, PROMPTS * 3)
    assert sorted(asked) == sorted(set(PROMPTS))


def test_encoders_of_other_features_are_refused(audio: AudioEncoder, text: TextEncoder) -> None:
    from dataclasses import replace

    from audiomos_cache.artifacts import Fingerprint

    bundle = make_bundle(audio, text, pad_to_s=5.0)
    fields = bundle.fingerprint.fields
    other = fields | {"text_encoder": fields["text_encoder"] | {"weights_xxh3_128": "f" * 32}}
    with pytest.raises(CacheError, match=r"text_encoder.weights_xxh3_128.*give --audio-encoder and --text-encoder"):
        Scorer(replace(bundle, fingerprint=Fingerprint.of(other)), audio_encoder=audio, text_encoder=text)


def test_a_scorer_says_what_it_predicts_and_by_which_bundle(audio: AudioEncoder, text: TextEncoder) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    scorer = Scorer(bundle, audio_encoder=audio, text_encoder=text)
    assert [(each.name, each.hears_prompt) for each in scorer.targets] == [("mi", False), ("ta", True)]
    assert scorer.entries == {
        "model": {"name": "model", "digest": "0" * 32, "windows": "mean of 5 s", "licence": bundle.licence}
    }
    assert (scorer.digests, scorer.is_calibrated) == (("0" * 32,), True)
    other = replace(bundle, name="someone/other", digest="f" * 32, calibrations={})
    both = Scorer([bundle, other], audio_encoder=audio, text_encoder=text)
    assert [each.name for each in both.targets] == ["model.mi", "model.ta", "someone/other.mi", "someone/other.ta"]
    assert [(each["name"], each["digest"]) for each in both.entries.values()] == [
        ("model", "0" * 32),
        ("someone/other", "f" * 32),
    ]
    assert (both.digests, both.is_calibrated) == (("0" * 32, "f" * 32), True)
    assert not Scorer([other], audio_encoder=audio, text_encoder=text).is_calibrated


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], ConfigError, "bundle is an empty list, expected a bundle or several"),
        (
            ["model", "other", "model"],
            BundleError,
            "3 bundles, and more than one is called 'model', which their scores are named by; rename a folder, or give "
            "each bundle once",
        ),
    ],
)
def test_bundles_that_cannot_be_told_apart(
    names: list[str], error: type[Exception], message: str, audio: AudioEncoder, text: TextEncoder
) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    with pytest.raises(error) as caught:
        Scorer([replace(bundle, name=name) for name in names], audio_encoder=audio, text_encoder=text)
    assert str(caught.value) == message


def test_windows_are_released_or_mean(audio: AudioEncoder, text: TextEncoder) -> None:
    never: Any = "all"
    with pytest.raises(ConfigError, match=r"^windows is 'all', expected one of released, mean$"):
        Scorer(make_bundle(audio, text), audio_encoder=audio, text_encoder=text, windows=never)


def test_another_version_of_the_resampler_is_told(
    audio: AudioEncoder, text: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    from dataclasses import replace

    from audiomos_cache.artifacts import Fingerprint

    bundle = make_bundle(audio, text, pad_to_s=5.0)
    fields = bundle.fingerprint.fields
    older = fields | {"resampler": fields["resampler"] | {"version": "1.0"}}
    Scorer(replace(bundle, fingerprint=Fingerprint.of(older)), audio_encoder=audio, text_encoder=text)
    assert "1.0 did for what model was trained on" in caplog.text


class Overflowing:
    """An encoder that gives NaN for loud clips: in half precision, or always."""

    def __init__(self, audio: AudioEncoder, precision: str) -> None:
        self._audio, self.precision = audio, precision

    def __getattr__(self, name: str) -> Any:
        return getattr(self._audio, name)

    def encode(self, waveforms: torch.Tensor) -> torch.Tensor:
        frames = self._audio.encode(waveforms)
        frames[:, waveforms.abs().amax(dim=1) > 1.5] = float("nan")
        return frames

    def encode_fp32(self, waveforms: torch.Tensor) -> torch.Tensor:
        return self._audio.encode(waveforms)


def test_a_clip_that_overflows_is_encoded_again_in_float32(audio: AudioEncoder, text: TextEncoder) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    clips = [music(4.0, seed=seed)[:, 0] for seed in range(4)]
    clips[2] *= 5
    expected = Scorer(bundle, audio_encoder=audio, text_encoder=text, batch_size=3).score(
        clips, list(PROMPTS[:4]), sample_rate=16000
    )
    half: Any = Overflowing(audio, "fp16")
    found = Scorer(bundle, audio_encoder=half, text_encoder=text, batch_size=3).score(
        clips, list(PROMPTS[:4]), sample_rate=16000
    )
    for target in ("mi", "ta"):
        np.testing.assert_allclose(values(found, target), values(expected, target), atol=0.02)  # heads in half, too
    full: Any = Overflowing(audio, "fp32")
    lost = Scorer(bundle, audio_encoder=full, text_encoder=text, batch_size=3).score(
        clips, list(PROMPTS[:4]), sample_rate=16000, on_error="return"
    )
    assert [score.error is None for score in lost] == [True, True, False, True]
    assert "muq-tiny, or a head of model, gives NaN, Inf or an invalid distribution" in str(lost[2].error)
    assert lost[3].mi == pytest.approx(expected[3].mi, abs=1e-5)
    with pytest.raises(EncoderError, match="2: muq-tiny, or a head of model, gives NaN, Inf or an invalid"):
        Scorer(bundle, audio_encoder=full, text_encoder=text, batch_size=3).score(clips, sample_rate=16000)


def not_normalised(dist: torch.Tensor) -> None:
    dist[2] *= 1.01


def negative(dist: torch.Tensor) -> None:
    dist[2, :2] += torch.tensor([-0.5, 0.5])


def not_finite(dist: torch.Tensor) -> None:
    dist[2, 0] = float("nan")


@pytest.mark.parametrize("damage", [not_normalised, negative, not_finite])
def test_a_head_that_gives_an_invalid_distribution_for_a_clip(
    damage: Callable[[torch.Tensor], None], audio: AudioEncoder, text: TextEncoder
) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    scorer = Scorer(bundle, audio_encoder=audio, text_encoder=text, batch_size=4)
    clips = [music(4.0, seed=seed)[:, 0] for seed in range(4)]
    expected = scorer.score(clips, "rain", sample_rate=16000)

    def after(_head: Any, _given: Any, output: Any) -> Any:
        dist = output.ta_output.dist.clone()
        damage(dist)
        return replace(output, ta_output=replace(output.ta_output, dist=dist))

    bundle.members[1].head.register_forward_hook(after)
    found = scorer.score(clips, "rain", sample_rate=16000, on_error="return")
    message = "2: muq-tiny, or a head of model, gives NaN, Inf or an invalid distribution; check the clip"
    assert [score.error for score in found] == [None, None, message, None]
    assert values(found[3:], "ta") == values(expected[3:], "ta")


class Infinite(MeanFusion):
    """A fusion that gives a score of infinity, or a distribution of NaN, for the third clip."""

    def __init__(self, names: Any, part: str) -> None:
        super().__init__(names)
        self.part = part

    def blend(self, members: Any) -> Any:
        blend = super().blend(members)
        if self.part == "scores":
            blend.scores["mi"][2] = float("inf")
        else:
            blend.dists["mi"][2] = float("nan")
        return blend


@pytest.mark.parametrize("part", ["scores", "dists"])
def test_a_fusion_that_gives_no_valid_prediction_of_a_clip(part: str, audio: AudioEncoder, text: TextEncoder) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    bundle = replace(bundle, fusion=Infinite(bundle.fusion.names, part))
    scorer = Scorer(bundle, audio_encoder=audio, text_encoder=text, batch_size=4)
    clips = [music(4.0, seed=seed)[:, 0] for seed in range(4)]
    found = scorer.score(clips, "rain", sample_rate=16000, on_error="return")
    assert [score.error is None for score in found] == [True, True, False, True]


def test_a_score_in_plain_values(clips: list[Path], make_scorer: MakeScorer) -> None:
    score = make_scorer(pad_to_s=5.0).score(clips[:1], "rain")[0]
    plain = score.to_dict()
    assert list(plain) == [
        "id", "path", "prompt", "mi", "ta", "mi_interval", "ta_interval", "scores", "duration_s", "windows",
        "heard", "warnings", "error", "columns",
    ]  # fmt: skip
    assert plain["scores"] == {"mi": plain["mi"], "mi_spread": None, "ta": plain["ta"], "ta_spread": None}
    assert plain["heard"] == [0.0, 3.0]
    assert plain["mi"] == round(score.mi or 0, 6)
    assert isinstance(plain["mi_interval"], list)
