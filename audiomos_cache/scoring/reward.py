"""`Scorer.reward`: one score of each clip of a batch as a tensor, for reinforcement learning and best-of-N."""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from audiomos_cache.errors import ArgumentError
from audiomos_cache.registry import not_one_of
from audiomos_cache.scoring.clips import AudioLike, described, is_clip, rate_of
from audiomos_cache.scoring.results import Score
from audiomos_cache.targets import Target

if TYPE_CHECKING:
    from audiomos_cache.scoring.scorer import Scorer

log = logging.getLogger(__name__)


def reward_of(
    scorer: "Scorer",
    audio: "Tensor | Sequence[AudioLike]",
    prompts: str | Sequence[str | None] | None,
    sample_rate: float | None,
    target: str,
) -> Tensor:
    """Score a batch of clips; see `Scorer.reward`."""
    if _target(scorer.targets, target).hears_prompt:
        _require_a_prompt(prompts, target)
    clips, device, is_samples = _clips(audio)
    if is_samples:
        rate_of("audio", sample_rate)  # without one, each clip would have an error
    scores = scorer.score(clips, prompts, sample_rate=sample_rate, on_error="return")
    values = [_value(score, target) for score in scores]
    if values and all(map(math.isnan, values)):
        reason = scores[0].error or "it has no prompt"
        log.warning("reward: none of %d clips has a score of %s; the first: %s", len(values), target, reason)
    return torch.tensor(values, dtype=torch.float32, device=device or "cpu")


def _target(targets: Sequence[Target], name: str) -> Target:
    for target in targets:
        if target.name == name:
            return target
    raise ArgumentError(f"target {not_one_of(name, [target.name for target in targets])}")


def _require_a_prompt(prompts: object, target: str) -> None:
    """Refuse a batch in which no clip has a prompt: none would have a score, and a training would learn nothing."""
    each = [prompts] if prompts is None or isinstance(prompts, str) else prompts
    given = list(each) if isinstance(each, Iterable) else []
    if given and not any(isinstance(prompt, str) and prompt.strip() for prompt in given):
        raise ArgumentError(
            f"target {target!r} depends on the prompt, and no clip has one; give prompts: one string, or one for each"
        )


def _clips(audio: Any) -> tuple[Sequence[Any], torch.device | None, bool]:
    """Return the clips of a batch; their device, None where they are no tensors; whether they are bare samples.

    Raises:
        ArgumentError: a tensor or an array of numbers that is not (clips, samples) or (clips, channels, samples).
    """
    is_tensor = isinstance(audio, Tensor)
    if is_tensor and (audio.is_nested or audio.is_meta or audio.layout != torch.strided or audio.is_quantized):
        kind = "nested" if audio.is_nested else "meta" if audio.is_meta else "sparse or quantized"
        advice = "its clips in a list, audio.unbind()" if audio.is_nested else "a plain one with values"
        raise ArgumentError(f"audio is a {kind} tensor, expected {advice}")
    if is_tensor or (isinstance(audio, np.ndarray) and is_clip(audio)):
        if audio.ndim not in (2, 3):
            raise ArgumentError(
                f"audio: found {described(audio)}, expected (clips, samples) or (clips, channels, samples); give one "
                "clip as audio[None]"
            )
        return (list(audio.detach().cpu()), audio.device, True) if is_tensor else (list(audio), None, True)
    first = audio[0] if isinstance(audio, list | tuple) and audio else None
    return audio, first.device if isinstance(first, Tensor) else None, isinstance(first, Tensor | np.ndarray)


def _value(score: Score, target: str) -> float:
    of_bundles = {
        f"{label}.{name}": value for label, each in score.bundles.items() for name, value in each.scores.items()
    }
    value = (of_bundles or score.scores).get(target)
    return math.nan if value is None else float(value)
