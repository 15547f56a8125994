"""The scorer: encoders and a bundle loaded once, then MI and TA of any number of clips."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from os import PathLike, fspath
from threading import Lock
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from audiomos_cache.bundle.load import Bundle, load_bundle
from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder
from audiomos_cache.errors import AudiomosError, ConfigError, DataError, EncoderError
from audiomos_cache.extraction.batching import decode_ahead, decode_threads
from audiomos_cache.extraction.options import batch_size_for, free_gpu_bytes
from audiomos_cache.scoring.bundle_encoders import load_encoders, options_of, require_same_features
from audiomos_cache.scoring.inference import Batch, BundleOnDevice, Prompts, PromptTokens, WindowScores
from audiomos_cache.scoring.inputs import SoundLike, Wanted, wanted_of
from audiomos_cache.scoring.results import Item, Score
from audiomos_cache.scoring.windows import NO_SCORE, Sound, clip_score
from audiomos_cache.targets import TARGETS

OnError = Literal["raise", "return"]

UNPADDED_BATCHES = 2  # whose clips are sorted by length, where they are encoded at their own


@dataclass(frozen=True, slots=True)
class _Started:
    """Clips on their way together: each with its sound, or with what is wrong with it."""

    clips: list[tuple[Wanted, Sound | AudiomosError]]
    prompts: dict[str, PromptTokens]
    batch: Batch


class Scorer:
    """Scores clips with the heads and the fusion of a bundle.

    A clip's score depends on the clip and its prompt alone: not on the batch, the order, or its neighbours. Several
    threads may use one scorer; they take turns.

    Args:
        bundle: heads, fusion and calibration.
        audio, text: the encoders that it names; see `from_bundle`.
        batch_size: windows encoded at once, at least 1; None: 4 on a CPU, what the memory allows on a GPU.
    Attributes:
        digest: tells the bundle from all others.
        untrained: names of encoders whose weights are random.
    Raises:
        CacheError: encoders with other features than the bundle's heads were trained on. ConfigError: another batch
        size.
    """

    def __init__(self, bundle: Bundle, audio: AudioEncoder, text: TextEncoder, batch_size: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}, expected 1 or more")
        pad_to_s = bundle.fingerprint.fields["pad_to_s"]
        options = options_of(bundle.fingerprint, batch_size or batch_size_for(audio, pad_to_s, free_gpu_bytes))
        require_same_features(bundle, audio, text, options)
        self.digest = bundle.digest
        self.untrained = tuple(encoder.name for encoder in (audio, text) if encoder.untrained)
        self._bundle, self._audio, self._text, self._options = bundle, audio, text, options
        dtype: torch.dtype = getattr(torch, options.dtype)
        self._prompts = Prompts(text, dtype, options.batch_size, audio.device)
        self._no_prompt = torch.zeros(1, text.dim, dtype=dtype)  # MI does not look at it
        self._on_device = BundleOnDevice(bundle, audio, options)
        self._turn = Lock()

    @classmethod
    def from_bundle(
        cls,
        source: str | PathLike[str],
        *,
        revision: str | None = None,
        audio_encoder: str | None = None,
        text_encoder: str | None = None,
        device: Literal["auto", "cpu", "cuda"] | str = "auto",
        precision: Precision | None = None,
        batch_size: int | None = None,
    ) -> "Scorer":
        """Load a bundle and its encoders.

        Args:
            source: a folder, or a hub repository id.
            revision: branch, tag or commit of a hub repository.
            audio_encoder, text_encoder: folders or hub repositories with the encoders' weights, where they are not to
                be had where the bundle says.
            device: "auto": a GPU where there is one.
            precision: of the audio encoder: fp32 on a CPU and fp16 on a GPU, unless given.
            batch_size: windows encoded at once.
        Raises:
            DataError: no bundle, or a damaged one. EncoderError: encoders that are not to be had. CacheError: encoders
            with other features than its heads were trained on.
        """
        bundle = load_bundle(fspath(source), revision)
        where = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        audio, text = load_encoders(bundle, audio_encoder, text_encoder, where, precision)
        return cls(bundle, audio, text, batch_size)

    def score(
        self,
        sounds: Sequence[SoundLike],
        prompts: str | Sequence[str | None] | None = None,
        *,
        sample_rate: int | None = None,
        ids: Sequence[str] | None = None,
        on_error: OnError = "raise",
    ) -> list[Score]:
        """Score clips.

        Args:
            sounds: N paths of audio files, or arrays or tensors of samples, (n,) or (channels, n) floats from -1 to 1.
            prompts: the text of each clip; one for all; None: MI alone, which of a sequence may be said of some.
            sample_rate: of the arrays, in Hz.
            ids: of the clips; None: the files' names without `.wav`, or an array's place in the sequence.
            on_error: what to do about a clip that cannot be scored: raise, or say so in its score's `error`.
        Returns:
            N scores, in order.
        Raises:
            DataError: not as many prompts or ids as clips; with "raise", a clip that cannot be read. EncoderError: with
            "raise", one that the encoder gives NaN or Inf for.
        """
        _check_on_error(on_error)
        if isinstance(sounds, str | PathLike | np.ndarray | Tensor):
            shown = f"an array of shape {tuple(sounds.shape)}" if hasattr(sounds, "shape") else repr(fspath(sounds))
            raise DataError(f"{shown}: a single clip, expected a sequence of clips; put it in a list")
        texts = [prompts] * len(sounds) if prompts is None or isinstance(prompts, str) else list(prompts)
        names = [None] * len(sounds) if ids is None else list(ids)
        for what, given in (("prompts", texts), ("ids", names)):
            if len(given) != len(sounds):
                raise DataError(f"{len(given)} {what} for {len(sounds)} clips, expected one for each")
        if ids is not None and (len(set(ids)) < len(ids) or not all(isinstance(name, str) for name in ids)):
            raise DataError("ids that are no texts, or are there twice, expected a text of its own for each clip")
        clips = enumerate(zip(sounds, texts, names, strict=True))
        return list(self._run((wanted_of(place, *each, sample_rate) for place, each in clips), on_error))

    def score_iter(
        self,
        clips: Iterable[tuple[SoundLike, str | None]],
        *,
        sample_rate: int | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[Score]:
        """Score a stream of clips with their prompts, in order; see `score`.

        A few batches are taken from the stream ahead of the one that is scored, to be decoded meanwhile. Arrays are
        copied when they are taken. After an error of the stream itself, the clips it gave before are scored first.
        """
        _check_on_error(on_error)
        wanted = (wanted_of(place, sound, prompt, None, sample_rate) for place, (sound, prompt) in enumerate(clips))
        return self._run(wanted, on_error)

    def score_items(self, items: Iterable[Item]) -> Iterator[Score]:
        """Score files, in order; those that cannot be scored say so in their score's `error`."""
        return self._run((Wanted(item.id, item.path, item.prompt) for item in items), "return")

    def _run(self, wanted: Iterable[Wanted], on_error: OnError) -> Iterator[Score]:
        """Decode ahead, and on a GPU begin with the next clips before waiting for those begun."""
        size = self._options.batch_size * (1 if self._options.pad_to_s is not None else UNPADDED_BATCHES)
        on_gpu = self._audio.device.type == "cuda"
        under_way: deque[_Started] = deque()
        errors: list[Exception] = []
        batches = _batched(_until_error(wanted, errors), size)
        with closing(decode_ahead(batches, self._read, decode_threads(self._audio.device))) as ahead:
            for batch in ahead:
                under_way.append(self._start(batch))
                while len(under_way) > on_gpu:
                    yield from self._finish(under_way.popleft(), on_error)
            while under_way:
                yield from self._finish(under_way.popleft(), on_error)
        if errors:
            raise errors[0]

    def _read(self, wanted: Wanted) -> Sound:
        """Read a clip, on one of the threads that decode."""
        sound = wanted.hear(self._audio.sample_rate_hz, self._options.max_seconds)
        return replace(sound, windows=tuple(map(self._on_device.prepare, sound.windows)))

    def _start(self, batch: Sequence[tuple[Wanted, "Future[Sound]"]]) -> _Started:
        """Begin to encode and to score clips."""
        clips = [(wanted, _result(future)) for wanted, future in batch]
        heard = [(wanted, sound) for wanted, sound in clips if isinstance(sound, Sound)]
        with self._turn:
            prompts = self._prompts.encode(wanted.text for wanted, _ in heard if wanted.text)
        tokens = {text: prompt.tokens for text, prompt in prompts.items() if prompt.finite}
        windows = [window for _, sound in heard for window in sound.windows]
        of_windows = [tokens.get(wanted.text or "", self._no_prompt) for wanted, sound in heard for _ in sound.windows]
        with self._turn:
            return _Started(clips, prompts, self._on_device.start(windows, of_windows))

    def _finish(self, started: _Started, on_error: OnError) -> Iterator[Score]:
        """Wait for clips that were begun, and tell their scores."""
        with self._turn:
            found = self._on_device.finish(started.batch)
        first = 0
        for wanted, sound in started.clips:
            scored: Score | AudiomosError
            if isinstance(sound, Sound):
                rows = slice(first, first + len(sound.windows))
                first = rows.stop
                scored = self._score(wanted, sound, found.rows(rows), started.prompts)
            else:
                scored = sound
            if isinstance(scored, Score):
                yield scored
            elif on_error == "raise":
                raise scored
            else:
                yield Score(wanted.id, wanted.path, wanted.prompt, error=str(scored))

    def _score(
        self, wanted: Wanted, sound: Sound, windows: WindowScores, prompts: Mapping[str, PromptTokens]
    ) -> Score | EncoderError:
        """Put the scores of a clip's windows together."""
        if not windows.finite:
            whose = f"{self._audio.name}, or a head of {self._bundle.name},"
            return EncoderError(f"{wanted.path or wanted.id}: {whose} gives NaN or Inf; check the clip")
        prompt = prompts.get(wanted.text or "")
        if prompt and not prompt.finite:
            return EncoderError(f"{wanted.path or wanted.id}: {self._text.name} gives NaN or Inf for {wanted.text!r}")
        lengths = [window.length for window in sound.windows]
        mi, ta = (
            clip_score(windows.scores[target], windows.spreads[target], lengths, self._bundle.calibrations.get(target))
            for target in TARGETS
        )
        if prompt is None:
            ta = NO_SCORE
        return Score(
            id=wanted.id,
            path=wanted.path,
            prompt=wanted.prompt,
            mi=mi.score,
            ta=ta.score,
            mi_interval=mi.interval,
            ta_interval=ta.interval,
            duration_s=sound.duration_s,
            windows=len(lengths),
            mi_spread=mi.over_windows,
            ta_spread=ta.over_windows,
            warnings=(*sound.warnings, *self._prompt_warnings(wanted, prompt)),
        )

    def _prompt_warnings(self, wanted: Wanted, prompt: PromptTokens | None) -> Iterator[str]:
        if wanted.prompt is not None and prompt is None:
            yield "prompt empty: MI alone"
        if prompt and prompt.cut:
            yield f"prompt cut at {self._text.max_tokens} tokens"


def _check_on_error(on_error: str) -> None:
    if on_error not in get_args(OnError):
        raise ConfigError(f"on_error is {on_error!r}, expected one of {', '.join(get_args(OnError))}")


def _result(future: "Future[Sound]") -> Sound | AudiomosError:
    try:
        return future.result()
    except AudiomosError as error:
        return error


def _until_error(items: Iterable[Wanted], errors: list[Exception]) -> Iterator[Wanted]:
    """Give items until the user's iterator fails, and keep its error for when they are scored."""
    try:
        yield from items
    except Exception as error:  # of whatever kind
        errors.append(error)


def _batched(items: Iterable[Wanted], size: int) -> Iterator[list[Wanted]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
