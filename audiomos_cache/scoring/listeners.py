"""Bundles that are given the same frames, with their encoders: a decoded clip in, the score of each bundle out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from audiomos_cache.audio.decode import Audio
from audiomos_cache.bundle.bundle import Bundle
from audiomos_cache.devices import available_ram
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder, TextFeatures, is_untrained
from audiomos_cache.errors import AudiomosError, EncoderError
from audiomos_cache.extraction.options import SHARE_OF_MEMORY, batch_size_for, free_gpu_bytes
from audiomos_cache.scoring.encoders import Encoders, options_of, require_same_features
from audiomos_cache.scoring.inference import BundlesOnDevice, Prompts, WindowScores
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.windows import (
    DecodedClip,
    WindowMode,
    WindowRule,
    Windows,
    prompt_oddities,
    score_of_clip,
)

UNPADDED_BATCHES = 2  # whose clips are sorted by length, where they are encoded at their own

Heard = tuple[Item, Windows | AudiomosError]
Made = dict[str, Score | AudiomosError]
"""What each bundle says of a clip, by the bundle's name."""


@dataclass(frozen=True, slots=True)
class Prompted:
    """A bundle with its encoders.

    Attributes:
        label: what it is called among several.
        bundle: the bundle.
        audio, text: its encoders; no text encoder where no head hears a prompt.
        prompts: encoded prompts, shared with other bundles of the same text encoder.
    """

    label: str
    bundle: Bundle
    audio: AudioEncoder
    text: TextEncoder | None
    prompts: Prompts | None

    def encode(self, items: Sequence[Item]) -> Mapping[str, TextFeatures]:
        """Return the features of the prompts of some clips; none where no head hears one."""
        return self.prompts.encode(item.text for item in items if item.text) if self.prompts else {}

    def tokens(self, encoded: Mapping[str, TextFeatures], prompt: str | None) -> Tensor:
        """Return (L, dim) of a prompt, or something that no score depends on where there is none."""
        found = encoded.get(prompt or "")
        if found is not None and _is_finite(found):
            return found.tokens
        return torch.zeros(1, self.text.dim if self.text else 1, dtype=getattr(torch, self.bundle.input.dtype))

    def score(
        self, item: Item, windows: Windows, found: WindowScores, encoded: Mapping[str, TextFeatures]
    ) -> Score | EncoderError:
        """Put the scores of a clip's windows together."""
        name = item.path or item.id
        if not all(np.isfinite(scores).all() for scores, _ in found.values()):
            whose = f"{self.audio.name}, or a head of {self.bundle.name},"
            return EncoderError(f"{name}: {whose} gives NaN, Inf or an invalid distribution; check the clip")
        prompt = encoded.get(item.text or "")
        if prompt and self.text and not _is_finite(prompt):
            return EncoderError(f"{name}: {self.text.name} gives NaN or Inf for {item.text!r}")
        known = {
            target.name: found[target.name] if prompt or not target.hears_prompt else None
            for target in self.bundle.targets
        }
        return score_of_clip(item, windows, known, self.bundle.calibrations, tuple(self._warnings(item, prompt)))

    def _warnings(self, item: Item, prompt: TextFeatures | None) -> Iterator[str]:
        used = [self.audio, self.text] if prompt else [self.audio]
        if random := [encoder.name for encoder in used if encoder and is_untrained(encoder)]:
            yield f"untrained: the weights of {' and '.join(random)} are random, so the score means nothing"
        if self.text:
            yield from prompt_oddities(item.prompt, prompt, self.text.max_tokens)
        elif item.text:
            yield f"no TA: {self.label} does not hear prompts"


class Listener:
    """Bundles whose heads take the same frames, and the encoder that makes these.

    Attributes:
        bundles: in the order in which `start` gives their scores.
        audio: the encoder.
        rule: what of a clip is encoded.
        batch_size: windows encoded at once.
        together: clips taken together.
    """

    def __init__(self, bundles: Sequence[Prompted], batch_size: int | None, mode: WindowMode) -> None:
        self.bundles, self.audio = tuple(bundles), bundles[0].audio
        features = bundles[0].bundle.input
        self.rule = WindowRule.of(features, mode)
        if self.rule.kind == "whole":
            self.batch_size = 1  # memory is counted for one
        else:
            self.batch_size = batch_size or batch_size_for(self.audio, features.pad_to_s, free_gpu_bytes)
        options = options_of(features, self.batch_size)
        self.together = self.batch_size * (1 if options.pad_to_s is not None else UNPADDED_BATCHES)
        self._on_device = BundlesOnDevice([each.bundle for each in bundles], self.audio, options)

    def cut(self, clip: DecodedClip) -> Windows | AudiomosError:
        """Cut a clip into windows, as they are given to `start`; on any thread."""
        try:
            windows = clip.cut(self.rule, self.audio.sample_rate_hz, self._most_samples())
        except AudiomosError as error:
            return error
        pieces = [self._on_device.prepare(window) for window in windows.pieces]
        return replace(windows, pieces=pieces)

    def start(self, clips: Sequence[Heard]) -> Callable[[], list[Made]]:
        """Begin to encode and to score clips.

        Returns:
            What waits for them and returns what each bundle says of each.
        """
        heard = [(item, windows) for item, windows in clips if isinstance(windows, Windows)]
        encoded = [each.encode([item for item, _ in heard]) for each in self.bundles]
        pieces: list[Audio] = [piece for _, windows in heard for piece in windows.pieces]
        tokens = [
            [each.tokens(known, item.text) for item, windows in heard for _ in windows.pieces]
            for each, known in zip(self.bundles, encoded, strict=True)
        ]
        wait = self._on_device.start(pieces, tokens)

        def finish() -> list[Made]:
            found = wait()
            made: list[Made] = []
            first = 0
            for item, windows in clips:
                if not isinstance(windows, Windows):
                    made.append({each.label: windows for each in self.bundles})
                    continue
                rows = slice(first, first + len(windows.pieces))
                first = rows.stop
                of_clip: Made = {}
                for each, known, by_target in zip(self.bundles, encoded, found, strict=True):
                    own = {name: (scores[rows], spreads[rows]) for name, (scores, spreads) in by_target.items()}
                    of_clip[each.label] = each.score(item, windows, own, known)
                made.append(of_clip)
            return made

        return finish

    def _most_samples(self) -> int | None:
        """Return how long a clip may be for which there is memory, where all of it is encoded at once."""
        if self.rule.kind != "whole":
            return None
        on_gpu = self.audio.device.type == "cuda"
        free = free_gpu_bytes(self.audio.device) if on_gpu else available_ram()
        if not free:  # a system that does not say
            return None
        low, high = 0, round(self.rule.seconds * self.audio.sample_rate_hz)
        while high - low > self.audio.sample_rate_hz:
            middle = (low + high) // 2
            fits = self.audio.working_bytes(middle) <= SHARE_OF_MEMORY * free
            low, high = (middle, high) if fits else (low, middle)
        return high if self.audio.working_bytes(high) <= SHARE_OF_MEMORY * free else low


def combined(item: Item, made: Made, names: Mapping[str, Sequence[str]]) -> Score:
    """Return the score of a clip by one bundle, or put those by several together.

    Args:
        item: the clip.
        made: what each bundle says of it.
        names: of the values in a score of each bundle; all are there also where it failed.
    """
    scores = {
        label: each if isinstance(each, Score) else replace(item.failed(each), scores=dict.fromkeys(names[label]))
        for label, each in made.items()
    }
    if len(scores) == 1:
        return next(iter(scores.values()))
    known = [each for each in scores.values() if each.error is None]
    first = known[0].warnings if known else ()
    shared = [warning for warning in first if all(warning in each.warnings for each in known)]
    failed = {label: each.error for label, each in scores.items() if each.error is not None}
    is_the_clips = len(failed) == len(scores) and len(set(failed.values())) == 1
    problems = [*failed.values()][:1] if is_the_clips else [f"{label}: {error}" for label, error in failed.items()]
    return item.score(
        duration_s=known[0].duration_s if known else None,
        warnings=tuple(shared),
        error="; ".join(map(str, problems)) or None,
        bundles={
            label: replace(each, warnings=tuple(warning for warning in each.warnings if warning not in shared))
            for label, each in scores.items()
        },
    )


def listeners_of(
    bundles: Mapping[str, Bundle],
    encoders: Encoders,
    batch_size: int | None,
    mode: WindowMode,
) -> list[Listener]:
    """Load the encoders of bundles, and put those together whose heads take the same frames.

    Args:
        bundles: one or more, by what they are called.
        encoders: loads them, each once.
        batch_size: windows encoded at once; None: what suits the device.
        mode: what is heard of a long clip.
    Raises:
        EncoderError: an encoder cannot be loaded. CacheError: it makes other features than the heads take.
    """
    prompts: dict[tuple[int, str], Prompts] = {}
    groups: dict[str, list[Prompted]] = {}
    for label, bundle in bundles.items():
        audio = encoders.audio_for(bundle)
        text = encoders.text_for(bundle, audio)
        require_same_features(bundle, audio, text)
        known = None
        if text is not None:
            dtype: torch.dtype = getattr(torch, bundle.input.dtype)
            size = batch_size or batch_size_for(audio, bundle.input.pad_to_s, free_gpu_bytes)
            known = prompts.setdefault((id(text), bundle.input.dtype), Prompts(text, dtype, size, audio.device))
        group = groups.setdefault(bundle.input.of_audio.fingerprint.digest, [])
        group.append(Prompted(label, bundle, group[0].audio if group else audio, text, known))
    return [Listener(group, batch_size, mode) for group in groups.values()]


def _is_finite(features: TextFeatures) -> bool:
    return bool(features.tokens.isfinite().all())
