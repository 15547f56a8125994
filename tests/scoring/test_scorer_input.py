"""What the Python interface is given, and how it fails."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.scoring.scorer import Scorer
from tests.support.scoring import PROMPTS, MakeScorer, make_bundle, music


def test_lists_that_do_not_fit(clips: list[Path], make_scorer: MakeScorer) -> None:
    scorer = make_scorer(pad_to_s=5.0)
    with pytest.raises(DataError, match="1 prompts for 2 clips, expected one for each"):
        scorer.score(clips[:2], ["rain"])
    with pytest.raises(DataError, match="1 ids for 2 clips"):
        scorer.score(clips[:2], ids=["a"])
    with pytest.raises(DataError, match="a single clip, expected a sequence of clips"):
        scorer.score(str(clips[0]))
    single: Any = music(4.0, channels=2).T
    with pytest.raises(DataError, match=r"an array of shape \(2, 64000\): a single clip"):
        scorer.score(single, sample_rate=16000)
    not_texts: Any = [1, 2]
    for ids in (["a", "a"], not_texts):
        with pytest.raises(DataError, match="ids that are not strings, or are there twice"):
            scorer.score(clips[:2], ids=ids)
    never: Any = "retrun"
    with pytest.raises(ConfigError, match="on_error is 'retrun', expected one of raise, return"):
        scorer.score(clips[:1], on_error=never)
    with pytest.raises(ConfigError, match="batch_size is 0, expected a whole number from 1"):
        make_scorer(pad_to_s=5.0, batch_size=0)
    assert scorer.score([]) == []
    assert [score.id for score in scorer.score(clips[:2], ids=["x", "y"])] == ["x", "y"]


NOISE = music(4.0)[:, 0]


@pytest.mark.parametrize(
    ("given", "prompt", "rate", "message"),
    [
        (NOISE, 7, 16000, "clip 1: its prompt is 7, expected a string or None"),
        (NOISE, "\ud800", 16000, "clip 1: its prompt is"),
        ("a\0b.wav", None, None, "no file can have this name"),
        (NOISE, None, 44, "clip 1: a sample rate of 44 Hz, expected 1000 to 1000000; 44 kHz is 44000"),
        (NOISE * 32768, None, 16000, "clip 1: samples of up to .*, expected full scale to be -1 to 1"),
        ((NOISE, NOISE), None, None, r"clip 1: found a tuple of \(ndarray, ndarray\), expected a path"),
    ],
)
def test_one_bad_clip_of_a_stream(
    given: Any, prompt: Any, rate: Any, message: str, clips: list[Path], make_scorer: MakeScorer
) -> None:
    scorer = make_scorer(pad_to_s=5.0, batch_size=2)
    stream = [(clips[0], "rain"), (given, prompt), (clips[1], "rain")]
    first, bad, last = scorer.score_iter(stream, sample_rate=rate, on_error="return")
    assert (first.error, last.error) == (None, None)
    assert bad.mi is None
    with pytest.raises(DataError, match=message):
        raise DataError(bad.error)
    scores = scorer.score_iter(stream, sample_rate=rate)
    assert next(scores).mi == pytest.approx(first.mi, abs=1e-6)
    with pytest.raises(DataError, match=message):
        next(scores)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_other_floats(kind: torch.dtype, make_scorer: MakeScorer) -> None:
    audio = torch.from_numpy(NOISE)
    full, other = make_scorer(pad_to_s=5.0).score([audio, audio.to(kind)], sample_rate=16000)
    assert other.mi == pytest.approx(full.mi, abs=0.05)


def test_a_stream_may_fill_one_array_again(make_scorer: MakeScorer) -> None:
    clips = [music(4.0, seed=seed)[:, 0] for seed in range(8)]
    buffer = np.empty_like(clips[0])

    def refilled() -> Iterator[tuple[Any, str]]:
        for audio in clips:
            buffer[:] = audio
            yield buffer, "rain"

    scorer = make_scorer(pad_to_s=5.0, batch_size=2)
    expected = [score.mi for score in scorer.score(clips, "rain", sample_rate=16000)]
    assert [score.mi for score in scorer.score_iter(refilled(), sample_rate=16000)] == pytest.approx(expected, abs=1e-6)
    assert len({round(mi or 0, 3) for mi in expected}) > 4


def test_after_an_error_of_the_stream_what_it_gave_is_scored(clips: list[Path], make_scorer: MakeScorer) -> None:
    def broken() -> Iterator[tuple[Path, str]]:
        yield from zip(clips, PROMPTS, strict=True)
        raise OSError("the line is dead")

    found: list[str] = []
    with pytest.raises(OSError, match="the line is dead"):
        found.extend(score.id for score in make_scorer(pad_to_s=5.0, batch_size=2).score_iter(broken()))
    assert found == [clip.stem for clip in clips]


def test_a_stream_that_is_left_leaves_no_thread(clips: list[Path], make_scorer: MakeScorer) -> None:
    before = threading.active_count()
    scores = make_scorer(pad_to_s=5.0, batch_size=1).score_iter((clip, "rain") for clip in clips * 4)
    next(scores)
    assert isinstance(scores, Iterator)
    scores.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(10)
    assert threading.active_count() <= before


def test_threads_take_turns(clips: list[Path], make_scorer: MakeScorer) -> None:
    scorer = make_scorer(pad_to_s=5.0, batch_size=2)
    expected = [(score.mi, score.ta) for score in scorer.score(clips, PROMPTS)]
    found: list[list[tuple[float | None, float | None]]] = []

    def score() -> None:
        for _ in range(2):
            found.append([(each.mi, each.ta) for each in scorer.score(clips, PROMPTS)])

    threads = [threading.Thread(target=score) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for each in found:
        np.testing.assert_allclose(each, expected, atol=1e-6)


class Blinding:
    """An encoder whose features of loud clips are larger than heads can bear in half precision."""

    precision = "fp16"

    def __init__(self, audio: AudioEncoder) -> None:
        self._audio = audio

    def __getattr__(self, name: str) -> Any:
        return getattr(self._audio, name)

    def encode(self, waveforms: torch.Tensor) -> torch.Tensor:
        frames = self._audio.encode(waveforms)
        frames[:, waveforms.abs().amax(dim=1) > 1.5] = 6e4
        return frames

    def encode_fp32(self, waveforms: torch.Tensor) -> torch.Tensor:
        return self._audio.encode(waveforms)


def test_a_clip_that_a_head_overflows_on_is_scored_in_float32(audio: AudioEncoder, text: TextEncoder) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    clips = [music(4.0, seed=seed)[:, 0] * (5 if seed == 2 else 1) for seed in range(4)]
    expected = Scorer(bundle, audio_encoder=audio, text_encoder=text, batch_size=3).score(
        clips, list(PROMPTS[:4]), sample_rate=16000
    )
    blinding: Any = Blinding(audio)
    found = Scorer(bundle, audio_encoder=blinding, text_encoder=text, batch_size=3).score(
        clips, list(PROMPTS[:4]), sample_rate=16000
    )
    for one, other in zip(found, expected, strict=True):
        assert (one.mi, one.ta) == pytest.approx((other.mi, other.ta), abs=0.02)
    assert (found[2].mi, found[2].ta) == pytest.approx((expected[2].mi, expected[2].ta), abs=1e-4)


def test_a_head_that_gives_nan_names_each_clip(audio: AudioEncoder, text: TextEncoder, clips: list[Path]) -> None:
    bundle = make_bundle(audio, text, pad_to_s=5.0)
    with torch.no_grad():
        next(bundle.members[1].head.mi.parameters()).fill_(float("nan"))
    scores = Scorer(bundle, audio_encoder=audio, text_encoder=text, batch_size=2).score(
        clips, PROMPTS, on_error="return"
    )
    for score, clip in zip(scores, clips, strict=True):
        whose = "muq-tiny, or a head of model,"
        assert score.error == f"{clip}: {whose} gives NaN, Inf or an invalid distribution; check the clip"
