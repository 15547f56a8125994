"""`Scorer`: encoders and a bundle loaded once, then MI and TA of any number of clips.

Torch and what needs it are imported when a scorer is made, so that `from audiomos_cache import Scorer` is fast.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from os import PathLike, fspath
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from audiomos_cache.devices import resolve_numbered_device
from audiomos_cache.errors import AudiomosError, BundleError, ConfigError, EncoderError, one_of
from audiomos_cache.files import is_folder
from audiomos_cache.progress import counted
from audiomos_cache.scoring.arguments import items_of_arguments, items_of_stream, until_error
from audiomos_cache.scoring.clips import AudioLike
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.windows import prompt_oddities, score_of_clip
from audiomos_cache.targets import TARGETS
from audiomos_cache.torch_settings import standard_thread, standard_torch

if TYPE_CHECKING:
    from audiomos_cache.audio.decode import Audio
    from audiomos_cache.bundle.load import Bundle
    from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder, TextFeatures
    from audiomos_cache.scoring.inference import WindowScores

OnError = Literal["raise", "return"]
Read: TypeAlias = "list[Audio] | AudiomosError"
Made: TypeAlias = tuple[Item, Score | AudiomosError]

UNPADDED_BATCHES = 2  # whose clips are sorted by length, where they are encoded at their own


class Scorer:
    """Scores clips with the heads and the fusion of a bundle.

    A clip's score depends on the clip and its prompt alone: not on the batch, the order, or its neighbours. Several
    threads may use one scorer; they take turns. A scorer is pickled by its arguments: in the process that unpickles it,
    it is loaded again, and refused if it is no longer the same bundle.

    Args:
        bundle: a folder or a hub repository id, `NAME@REVISION` to pin a branch, tag or commit; or a loaded bundle.
        audio_encoder, text_encoder: folders or hub repositories with the encoders' weights, if they are not to be
            loaded from where the bundle has them from; or loaded encoders.
        device: "auto": a GPU where there is one; "cpu", "cuda".
        precision: of the audio encoder: "fp32", "fp16" or "bf16"; None: the one that the features were made in, where
            it shows in them; else float16 on a GPU and float32 on a CPU.
        batch_size: windows encoded at once, at least 1; None: 4 on a CPU, what the memory allows on a GPU.
    Attributes:
        digest: identifies the bundle, 32 hex digits.
        untrained: names of encoders whose weights are random.
    Raises:
        BundleError: no bundle, or a damaged one. EncoderError: encoders that cannot be loaded. CacheError: encoders
        with other features than the bundle's heads were trained on. ConfigError: another batch size or device.

    >>> scorer = Scorer("model", device="cpu")
    >>> scorer
    Scorer('model': mean of 2 heads; muq-tiny in fp32 and roberta-tiny, on cpu, 4 windows at once)
    >>> [score] = scorer.score(["song.wav"], ["A slow piano ballad."])
    >>> 1 <= score.mi <= 5 and score.mi_interval[0] <= score.mi <= score.mi_interval[1]
    True
    """

    @standard_torch()
    def __init__(
        self,
        bundle: "str | PathLike[str] | Bundle",
        *,
        audio_encoder: "str | PathLike[str] | AudioEncoder | None" = None,
        text_encoder: "str | PathLike[str] | TextEncoder | None" = None,
        device: str = "auto",
        precision: "Precision | None" = None,
        batch_size: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}, expected 1 or more")
        import torch

        from audiomos_cache.bundle.load import load_bundle
        from audiomos_cache.encoders import base
        from audiomos_cache.extraction.batching import decode_threads
        from audiomos_cache.extraction.options import batch_size_for, free_gpu_bytes
        from audiomos_cache.scoring.encoders import load_encoders, options_of, require_same_features
        from audiomos_cache.scoring.inference import BundleOnDevice, Prompts

        where = resolve_numbered_device(device)
        if precision is not None:
            one_of("precision", precision, get_args(base.Precision))
        self._arguments = {
            "bundle": _absolute(bundle),
            "audio_encoder": _absolute(audio_encoder),
            "text_encoder": _absolute(text_encoder),
            "device": device,
            "precision": precision,
            "batch_size": batch_size,
        }
        if isinstance(bundle, str | PathLike):
            bundle = load_bundle(bundle)
        audio, text = load_encoders(bundle, audio_encoder, text_encoder, where, precision)
        features = bundle.input
        size = batch_size or batch_size_for(audio, features.pad_to_s, free_gpu_bytes)
        options = options_of(features, size)
        require_same_features(bundle, audio, text, options)
        self.digest = bundle.digest
        self._untrained = tuple(encoder for encoder in (audio, text) if base.is_untrained(encoder))
        self.untrained = tuple(encoder.name for encoder in self._untrained)
        self._bundle, self._audio, self._text, self._batch_size = bundle, audio, text, options.batch_size
        self._window_s, self._threads = options.max_seconds, decode_threads(audio.device)
        self._together = options.batch_size * (1 if options.pad_to_s is not None else UNPADDED_BATCHES)
        dtype: torch.dtype = getattr(torch, options.dtype)
        self._prompts = Prompts(text, dtype, options.batch_size, audio.device)
        self._no_prompt = torch.zeros(1, text.dim, dtype=dtype)  # MI does not look at it
        self._on_device = BundleOnDevice(bundle, audio, options)
        self._turn = Lock()

    def __reduce__(self) -> tuple[Callable[..., "Scorer"], tuple[dict[str, Any], str]]:
        """Pickle the arguments, and the digest that the bundle must still have."""
        return _load_pickled, (self._arguments, self.digest)

    def __repr__(self) -> str:
        """Return what it scores with: `Scorer('model': ridge of 8 heads; muq in fp16 and roberta, on cuda, ...)`."""
        bundle, audio = self._bundle, self._audio
        heads = f"{bundle.fusion.method} of {counted(len(bundle.members), 'head')}"
        encoders = f"{audio.name} in {audio.precision} and {self._text.name}"
        return (
            f"Scorer({bundle.name!r}: {heads}; {encoders}, on {audio.device.type}, {self._batch_size} windows at once)"
        )

    def about(self) -> list[str]:
        """Return what the scores mean, and what makes them, a sentence each."""
        return self._bundle.about()

    def score(
        self,
        audio: Sequence[AudioLike],
        prompts: str | Sequence[str | None] | None = None,
        *,
        sample_rate: float | None = None,
        ids: Sequence[str] | None = None,
        on_error: OnError = "raise",
    ) -> list[Score]:
        """Score clips.

        Args:
            audio: N clips in a sequence, an array of objects, or a column of a table. A clip is a path; an array or
                tensor of samples, (n,), (channels, n) or (n, channels), floats from -1 to 1 or integers of up to 32
                bits; a tuple of these and their rate, in either order; a dict with `array` or `raw` and
                `sampling_rate`, or with `bytes` or `path`; the bytes of an audio file; or one that is opened as binary.
                A list of numbers is samples too; a list of such lists is several clips.
            prompts: the text of each clip; one for all; None: MI alone, also for single clips of a sequence (NaN too).
            sample_rate: of samples that come without their own, in Hz.
            ids: of the clips; None: the files' names without `.wav`, or where there is none, the index in the sequence.
            on_error: what to do about a clip that cannot be scored: "raise", or "return" a score with its `error`.
        Returns:
            N scores, in order.
        Raises:
            DataError: what is given for all clips, prompts or ids is no sequence, or not as long as the others; with
            "raise", a clip that cannot be read. EncoderError: with "raise", one without a valid score.
        """
        one_of("on_error", on_error, get_args(OnError))
        return list(self._run(items_of_arguments(audio, prompts, ids, sample_rate), on_error))

    def score_iter(
        self,
        clips: Iterable[tuple[AudioLike, str | None]],
        *,
        sample_rate: float | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[Score]:
        """Score a stream of clips with their prompts, in order; see `score`.

        A few batches are taken from the stream ahead of the one that is scored, and decoded while it is. Samples are
        copied when they are taken. After an error of the stream itself, the clips it gave before are scored first.
        """
        one_of("on_error", on_error, get_args(OnError))
        return self._run(items_of_stream(clips, sample_rate), on_error)

    def score_items(self, items: Iterable[Item]) -> Iterator[Score]:
        """Score items, in order; those that cannot be scored have the reason in their score's `error`."""
        return self._run(items, "return")

    def _run(self, items: Iterable[Item], on_error: OnError) -> Iterator[Score]:
        """Decode ahead, and on a GPU begin with the next clips before waiting for those begun."""
        from audiomos_cache.batch import batched
        from audiomos_cache.extraction.batching import decode_ahead

        on_gpu = self._audio.device.type == "cuda"
        started: deque[Callable[[], Iterator[Made]]] = deque()
        errors: list[Exception] = []
        batches = batched(until_error(items, errors), self._together)

        def finished(most: int) -> Iterator[Score]:
            while len(started) > most:
                for item, made in started.popleft()():
                    if on_error == "raise" and not isinstance(made, Score):
                        raise made
                    yield made if isinstance(made, Score) else item.failed(made)

        with closing(decode_ahead(batches, self._read, self._threads)) as ahead:
            for batch in ahead:
                started.append(self._start([(item, _result(future)) for item, future in batch]))
                yield from finished(most=on_gpu)
            yield from finished(most=0)
        if errors:
            raise errors[0]

    @standard_thread()
    def _read(self, item: Item) -> "list[Audio]":
        """Read a clip, on one of the threads that decode."""
        windows = item.windows(self._audio.sample_rate_hz, self._window_s)
        return [self._on_device.prepare(window) for window in windows]

    @standard_torch()
    def _start(self, clips: Sequence[tuple[Item, Read]]) -> Callable[[], Iterator[Made]]:
        """Begin to encode and to score clips.

        Returns:
            What waits for them and gives each with its score, or with its error.
        """
        readable = [(item, windows) for item, windows in clips if isinstance(windows, list)]
        with self._turn:
            prompts = self._prompts.encode(item.text for item, _ in readable if item.text)
        tokens = {text: found.tokens for text, found in prompts.items() if _is_finite(found)}
        together = [window for _, windows in readable for window in windows]
        of_windows = [tokens.get(item.text or "", self._no_prompt) for item, windows in readable for _ in windows]
        with self._turn:
            wait = self._on_device.start(together, of_windows)

        def finish() -> Iterator[Made]:
            with standard_torch(), self._turn:
                found = wait()
            first = 0
            for item, windows in clips:
                if not isinstance(windows, list):
                    yield item, windows
                    continue
                rows = slice(first, first + len(windows))
                first = rows.stop
                own = {target: (scores[rows], spreads[rows]) for target, (scores, spreads) in found.items()}
                yield item, self._score(item, windows, own, prompts)

        return finish

    def _score(
        self, item: Item, windows: "list[Audio]", found: "WindowScores", prompts: "Mapping[str, TextFeatures]"
    ) -> Score | EncoderError:
        """Put the scores of a clip's windows together."""
        name = item.path or item.id
        if not all(np.isfinite(scores).all() for scores, _ in found.values()):
            whose = f"{self._audio.name}, or a head of {self._bundle.name},"
            return EncoderError(f"{name}: {whose} gives NaN, Inf or an invalid distribution; check the clip")
        prompt = prompts.get(item.text or "")
        if prompt and not _is_finite(prompt):
            return EncoderError(f"{name}: {self._text.name} gives NaN or Inf for {item.text!r}")
        warnings = (*self._untrained_for(prompt), *prompt_oddities(item.prompt, prompt, self._text.max_tokens))
        scored = {target: found[target] for target in (TARGETS if prompt else TARGETS[:1])}
        return score_of_clip(item, windows, scored, self._bundle.calibrations, warnings)

    def _untrained_for(self, prompt: "TextFeatures | None") -> Iterator[str]:
        if random := [encoder.name for encoder in self._untrained if prompt or encoder is self._audio]:
            yield f"untrained: the weights of {' and '.join(random)} are random, so the score means nothing"


def _load_pickled(arguments: dict[str, Any], digest: str) -> Scorer:
    scorer = Scorer(**arguments)
    if scorer.digest != digest:
        raise BundleError(
            f"{arguments['bundle']}: is the bundle {scorer.digest}, expected {digest} as when the scorer was pickled; "
            "pickle a scorer of the bundle as it is now, or pin one with NAME@REVISION"
        )
    return scorer


def _absolute(given: Any) -> Any:
    """Return an argument that has the same meaning in a process with another working folder."""
    if isinstance(given, str | PathLike):
        return str(Path(given).absolute()) if is_folder(fspath(given)) else fspath(given)
    return given


def _is_finite(features: "TextFeatures") -> bool:
    return bool(features.tokens.isfinite().all())


def _result(future: "Future[list[Audio]]") -> Read:
    try:
        return future.result()
    except AudiomosError as error:
        return error
