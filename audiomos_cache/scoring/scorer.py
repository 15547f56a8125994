"""`Scorer`: encoders and bundles loaded once, then scores of any number of clips.

Torch and what needs it are imported when a scorer is made, so that `from audiomos_cache import Scorer` is fast.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from audiomos_cache.devices import resolve_numbered_device
from audiomos_cache.errors import AudiomosError, BundleError, one_of
from audiomos_cache.files import is_folder
from audiomos_cache.published.catalogue import DEFAULT, find_revision
from audiomos_cache.scoring.arguments import items_of_arguments, items_of_stream, until_error
from audiomos_cache.scoring.asked import check_batch_size, check_encoder, listed_bundles, warn_of_unused_text
from audiomos_cache.scoring.clips import AudioLike
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import entries_of, names_of
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.windows import WindowMode, Windows
from audiomos_cache.targets import Target
from audiomos_cache.torch_settings import standard_thread, standard_torch

if TYPE_CHECKING:
    from torch import Tensor

    from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder
    from audiomos_cache.scoring.asked import BundleLike
    from audiomos_cache.scoring.listeners import Listener, Made

OnError = Literal["raise", "return"]
Finish: TypeAlias = "Callable[[], Iterator[tuple[Item, Made]]]"
Read: TypeAlias = "list[Windows | AudiomosError] | AudiomosError"


class Scorer:
    """Scores clips with the heads and the fusion of a bundle, or of several.

    A clip's score depends on the clip and its prompt alone: not on the batch, the order, or its neighbours. Of several
    bundles, each clip is decoded once, and encoded once for those whose heads take the same frames. Several threads may
    use one scorer; they take turns. A scorer is pickled by its arguments: in the process that unpickles it, it is
    loaded again, and refused if it is no longer the same bundle.

    Args:
        bundle: a folder, a hub repository id, or the name of a published bundle (see `audiomos-cache info bundles`);
            `NAME@REVISION` pins a branch, tag or commit. Or a loaded bundle; or several of these.
        audio_encoder, text_encoder: folders or hub repositories with the encoders' weights, if they are not to be
            loaded from where the bundle has them from; or loaded encoders.
        device: "auto": a GPU where there is one; "cpu", "cuda".
        precision: of the audio encoder: "fp32", "fp16" or "bf16"; None: the one that the features were made in, where
            it shows in them; else float16 on a GPU and float32 on a CPU.
        batch_size: windows encoded at once, at least 1; None: 4 on a CPU, what the memory allows on a GPU.
        windows: what is heard of a long clip by a bundle that was released for the middle of it: "released", or "mean":
            all of it, in windows whose mean by length is the score.
    Attributes:
        digests: what identifies the bundles, 32 hex digits each.
        entries: what a line of scores says of the bundles, by their names.
        names: of the values in a score of each bundle, likewise.
        targets: what is predicted; of several bundles, by `BUNDLE.TARGET`.
        untrained: names of encoders whose weights are random.
    Raises:
        BundleError: no bundle, a damaged one, or two of one name. EncoderError: encoders that cannot be loaded.
        CacheError: encoders with other features than the bundle's heads take. ArgumentError: another batch
        size or device, or what is no bundle or encoder.

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
        bundle: "BundleLike | Sequence[BundleLike]" = DEFAULT,
        *,
        audio_encoder: "str | PathLike[str] | AudioEncoder | None" = None,
        text_encoder: "str | PathLike[str] | TextEncoder | None" = None,
        device: str = "auto",
        precision: "Precision | None" = None,
        batch_size: int | None = None,
        windows: WindowMode = "released",
    ) -> None:
        asked = listed_bundles(bundle)
        check_batch_size(batch_size)
        check_encoder("audio_encoder", audio_encoder, "encode")
        check_encoder("text_encoder", text_encoder, "encode")
        from audiomos_cache.bundle.load import load_bundle
        from audiomos_cache.encoders import base
        from audiomos_cache.scoring.encoders import Encoders
        from audiomos_cache.scoring.listeners import combined, listeners_of

        where = resolve_numbered_device(device)
        one_of("windows", windows, get_args(WindowMode))
        if precision is not None:
            one_of("precision", precision, get_args(base.Precision))
        self._arguments = {
            "bundle": [each if _is_published(each) else _absolute(each) for each in asked],
            "audio_encoder": _absolute(audio_encoder),
            "text_encoder": _absolute(text_encoder),
            "device": device,
            "precision": precision,
            "batch_size": batch_size,
            "windows": windows,
        }
        bundles = [load_bundle(each) if isinstance(each, str | PathLike) else each for each in asked]
        warn_of_unused_text(text_encoder, bundles)
        self.entries = entries_of(bundles, windows)
        self.names = names_of(bundles, windows)
        self._bundles = dict(zip(self.entries, bundles, strict=True))
        encoders = Encoders(audio_encoder, text_encoder, where, precision)
        self._listeners = listeners_of(self._bundles, encoders, batch_size, windows)
        by_label = {each.label: each for listener in self._listeners for each in listener.bundles}
        self._prompted = [by_label[label] for label in self._bundles]
        self._combine = partial(combined, names=self.names)
        self.digests = tuple(each.digest for each in bundles)
        self.targets: tuple[Target, ...] = tuple(
            replace(target, name=f"{label}.{target.name}") if len(bundles) > 1 else target
            for label, each in self._bundles.items()
            for target in each.targets
        )
        used = [encoder for each in self._prompted for encoder in (each.audio, each.text) if encoder]
        self.untrained = tuple(dict.fromkeys(each.name for each in used if base.is_untrained(each)))
        self._threads, self._together = _threads_and_batch(self._listeners)
        self._turn = Lock()

    def __reduce__(self) -> "tuple[Callable[..., Scorer], tuple[dict[str, Any], tuple[str, ...]]]":
        """Pickle the arguments, and the digests that the bundles must still have."""
        return _load_pickled, (self._arguments, self.digests)

    def __repr__(self) -> str:
        """Return what it scores with: `Scorer('model': ridge of 8 heads; muq in fp16 and roberta, on cuda, ...)`."""
        described = []
        for each in self._prompted:
            text = f" and {each.text.name}" if each.text else ""
            made_of = f"{each.bundle.name!r}: {each.bundle.made_of}"
            described.append(f"{made_of}; {each.audio.name} in {each.audio.precision}{text}")
        first = self._listeners[0]
        return f"Scorer({'; '.join(described)}, on {first.audio.device.type}, {first.batch_size} windows at once)"

    @property
    def is_calibrated(self) -> bool:
        """Whether scores have intervals."""
        return any(bundle.calibrations for bundle in self._bundles.values())

    def about(self) -> list[str]:
        """Return what the scores mean, and what makes them, a sentence each."""
        sentences = [each for bundle in self._bundles.values() for each in bundle.about()]
        middles = [each.rule.seconds for each in self._listeners if each.rule.kind == "centre"]
        sentences += [f"Heard: the middle {each:g} s, as released; the whole song: --windows mean." for each in middles]
        return [*dict.fromkeys(sentences)]

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

    def reward(
        self,
        audio: "Tensor | Sequence[AudioLike]",
        prompts: str | Sequence[str | None] | None = None,
        sample_rate: float | None = None,
        target: str = "mi",
    ) -> "Tensor":
        """Score a batch of clips with one number each, for reinforcement learning and best-of-N.

        Args:
            audio: (N, samples) or (N, channels, samples), a tensor on any device or an array, so that one clip is
                `clip[None]`; or N clips in a sequence, each what `score` takes.
            prompts: as for `score`.
            sample_rate: of samples that come without their own, in Hz.
            target: the name of one of `targets`.
        Returns:
            (N,) float32 scores on the target's scale (MI and TA: 1 to 5), without a gradient, on the device of the
            tensors that were given, else on the CPU. NaN for a clip that cannot be scored; where that is so for all of
            them, a warning is logged.
        Raises:
            ArgumentError: an unknown target, one that depends on the prompt where no clip has one, or a tensor of
            another shape. DataError: tensors without a sample rate; and as `score`, of what is given for all clips.

        >>> import torch
        >>> from audiomos_cache import Scorer
        >>> music = torch.randn(3, 48000) / 10
        >>> music[2] = 0
        >>> Scorer("model", device="cpu").reward(music, "A slow piano ballad.", 24000, target="ta")
        tensor([..., ..., nan])
        """
        from audiomos_cache.scoring.reward import reward_of

        return reward_of(self, audio, prompts, sample_rate, target)

    def score_items(self, items: Iterable[Item]) -> Iterator[Score]:
        """Score items, in order; those that cannot be scored have the reason in their score's `error`."""
        return self._run(items, "return")

    def _run(self, items: Iterable[Item], on_error: OnError) -> Iterator[Score]:
        """Decode ahead, and on a GPU begin with the next clips before waiting for those begun."""
        from audiomos_cache.batch import batched
        from audiomos_cache.extraction.batching import decode_ahead

        on_gpu = self._listeners[0].audio.device.type == "cuda"
        started: deque[Finish] = deque()
        errors: list[Exception] = []
        batches = batched(until_error(items, errors), self._together)

        def finished(most: int) -> Iterator[Score]:
            while len(started) > most:
                for item, made in started.popleft()():
                    for each in made.values():
                        if on_error == "raise" and not isinstance(each, Score):
                            raise each
                    yield self._combine(item, made)

        with closing(decode_ahead(batches, self._read, self._threads)) as ahead:
            for batch in ahead:
                started.append(self._start([(item, _result(future)) for item, future in batch]))
                yield from finished(most=on_gpu)
            yield from finished(most=0)
        if errors:
            raise errors[0]

    @standard_thread()
    def _read(self, item: Item) -> "list[Windows | AudiomosError]":
        """Read a clip and cut it for each listener, on one of the threads that decode."""
        clip = item.decode()
        return [listener.cut(clip) for listener in self._listeners]

    @standard_torch()
    def _start(self, clips: Sequence[tuple[Item, Read]]) -> Finish:
        """Begin to encode and to score clips.

        Returns:
            What waits for them and gives each with what each bundle says of it.
        """
        with self._turn:
            waits = []
            for index, listener in enumerate(self._listeners):
                heard = [(item, read[index]) for item, read in clips if isinstance(read, list)]
                waits.append(listener.start(heard))

        def finish() -> "Iterator[tuple[Item, Made]]":
            with standard_torch(), self._turn:
                found = [wait() for wait in waits]  # by listener, of each clip: the bundles' scores
            readable = iter(zip(*found, strict=True))
            for item, read in clips:
                by_label: Made = {}
                for each in next(readable) if isinstance(read, list) else ():
                    by_label |= each
                yield item, {label: read if not isinstance(read, list) else by_label[label] for label in self._bundles}

        return finish


def _load_pickled(arguments: dict[str, Any], digests: tuple[str, ...]) -> Scorer:
    scorer = Scorer(**arguments)
    for name, found, expected in zip(arguments["bundle"], scorer.digests, digests, strict=True):
        if found != expected:
            raise BundleError(
                f"{name}: is the bundle {found}, expected {expected} as when the scorer was pickled; "
                "pickle a scorer of the bundle as it is now, or pin one with NAME@REVISION"
            )
    return scorer


def _threads_and_batch(listeners: "Sequence[Listener]") -> tuple[int, int]:
    """Return how many threads decode, and how many clips are taken together."""
    from audiomos_cache.extraction.batching import decode_threads

    return decode_threads(listeners[0].audio.device), max(listener.together for listener in listeners)


def _is_published(bundle: "BundleLike") -> bool:
    return isinstance(bundle, str) and find_revision(bundle)[0] is not None


def _absolute(given: Any) -> Any:
    """Return an argument that has the same meaning in a process with another working folder."""
    if isinstance(given, str | PathLike):
        return str(Path(given).absolute()) if is_folder(fspath(given)) else fspath(given)
    return given


def _result(future: "Future[list[Windows | AudiomosError]]") -> Read:
    try:
        return future.result()
    except AudiomosError as error:
        return error
