"""Bundles at work: windows of audio and prompts in, the scores of each window by each bundle out."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.audio.decode import Audio
from audiomos_cache.batch import chunks, collate, pad_sequences
from audiomos_cache.bundle.bundle import Bundle
from audiomos_cache.bundle.calibration import spreads
from audiomos_cache.encoders.base import DTYPES, AudioEncoder, TextEncoder, TextFeatures
from audiomos_cache.evaluation.predictions import valid_rows
from audiomos_cache.extraction.batching import group_by_length, prompt_batches
from audiomos_cache.extraction.encoding import WaveformEncoder, valid_frames
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.extraction.transfer import on_own_stream, transfer_for
from audiomos_cache.fusion.base import Members
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS, Floats

MOST_KEPT = 1024  # prompts; of 128 tokens and 768 dimensions, 200 MB

Columns = dict[str, Floats]
"""What a head predicts of N windows: (N,) by target, and `mi_dist` and `ta_dist` (N, bins) where it has them."""
WindowScores = dict[str, tuple[Floats, Floats]]
"""By target, (N,) scores of windows and their (N,) spreads, see `bundle.calibration`; NaN where a head has none."""


class HasColumns(Protocol):
    """What a head gives for a batch of clips."""

    def columns(self) -> dict[str, Tensor]:
        """Return (B,) by target, and distributions where the head has them."""


class Prompts:
    """The prompts that came last, encoded in batches of one number of tokens, so that none is padded.

    Args:
        text: the encoder.
        dtype: that features are stored in.
        batch_size: prompts encoded at once.
        device: where the encoder is.
    """

    def __init__(self, text: TextEncoder, dtype: torch.dtype, batch_size: int, device: torch.device) -> None:
        self._text, self._dtype, self._batch_size, self._device = text, dtype, batch_size, device
        self._known: dict[str, TextFeatures] = {}

    def encode(self, prompts: Iterable[str]) -> dict[str, TextFeatures]:
        """Return the features of each distinct prompt, in the dtype that they are stored in; known ones are kept."""
        distinct = dict.fromkeys(prompts)
        unknown = [prompt for prompt in distinct if prompt not in self._known]
        if unknown:
            with on_own_stream(self._device):  # fetching tokens does not wait for the audio encoder
                for batch in prompt_batches(self._text, unknown, self._batch_size):
                    self._encode(batch)
        # Those asked for now come last, and are kept longest.
        found = {prompt: self._known.pop(prompt) for prompt in distinct}
        self._known |= found
        for oldest in list(self._known)[: max(0, len(self._known) - MOST_KEPT)]:
            del self._known[oldest]
        return found

    def _encode(self, batch: Sequence[str]) -> None:
        for prompt, features in zip(batch, self._text.encode(batch), strict=True):
            self._known[prompt] = replace(features, tokens=features.tokens.to(self._dtype))


class _Heads:
    """The heads of one bundle, on the device of the encoder that makes their features."""

    def __init__(self, bundle: Bundle, audio: AudioEncoder) -> None:
        rows = {number: row for row, number in enumerate(audio.layers)}
        self.fusion, self.targets = bundle.fusion, bundle.targets
        self.members = [
            (member.head.to(audio.device).eval(), [rows[number] for number in member.layers])
            for member in bundle.members
        ]

    def run(self, frames: Tensor, counts: Sequence[int], tokens: Sequence[Tensor]) -> "list[HasColumns]":
        """Run every head on the (B, layers, T, dim) features of B windows and their prompts."""
        batch = collate(frames, torch.tensor(counts), *pad_sequences(tokens))
        outputs = []
        for head, layers in self.members:
            own = frames[:, layers] if len(layers) > 1 else frames[:, layers[0]]
            outputs.append(head(*replace(batch, frames=own)))
        return outputs

    def blend(self, predicted: "_Predicted") -> WindowScores:
        """Blend what the members predict of the windows that can be scored."""
        count = len(predicted.usable)
        found = {target.name: (np.full(count, np.nan), np.full(count, np.nan)) for target in self.targets}
        if not predicted.usable.any():
            return found
        if self.fusion is None:
            rows, (columns,) = predicted.usable, predicted.usable_columns()
            for target in self.targets:
                own = columns[target.name]
                found[target.name][0][rows] = own.clip(target.lowest, target.highest) if target.clipped else own
            return found
        members = predicted.members(self.fusion.names)
        blend = self.fusion.apply(members)
        for name, (scores, spread) in found.items():
            valid = valid_rows(blend.scores[name])
            if (dist := blend.dists.get(name)) is not None:
                valid &= valid_rows(dist)
            indices = np.flatnonzero(predicted.usable)[valid]
            scores[indices] = blend.scores[name][valid].clip(LOWEST, HIGHEST)
            with np.errstate(invalid="ignore"):
                spread[indices] = spreads(members, blend, name)[valid]
        return found


class BundlesOnDevice:
    """Bundles whose heads take the same frames, on the device of the encoder that makes them.

    Attributes:
        prepare: what is to be done with a decoded window before it is given to `start`, on any thread.
    """

    def __init__(self, bundles: Sequence[Bundle], audio: AudioEncoder, options: ExtractionOptions) -> None:
        self._audio, self._options = audio, options
        self._hears_padding = bundles[0].input.padding == "heard"
        transfer = transfer_for(audio)
        self.prepare = transfer.prepare
        self._encoder = WaveformEncoder(audio, options, transfer)
        self._half = audio.precision != "fp32"
        self._ahead = 1 if audio.device.type == "cuda" else 0  # batches that are not waited for when the next is begun
        self._bundles = [_Heads(bundle, audio) for bundle in bundles]

    def start(self, windows: Sequence[Audio], tokens: Sequence[Sequence[Tensor]]) -> Callable[[], list[WindowScores]]:
        """Begin to score windows, those of one length together; each is encoded once for all bundles.

        Args:
            windows: N, as `prepare` gave them.
            tokens: for each bundle, (L, dim) of each window's prompt.
        Returns:
            What waits for them and returns, of each bundle, the scores of all N; NaN where the encoder gives NaN or
            Inf, or where a head or the fusion gives no valid prediction.
        """
        predicted = [_Predicted(len(windows), len(heads.members)) for heads in self._bundles]
        pending: deque[Callable[[], None]] = deque()

        def wait(most: int) -> None:
            while len(pending) > most:
                pending.popleft()()

        for length, same in group_by_length(enumerate(windows), self._audio, self._options).items():
            for some in chunks(same, self._options.batch_size):
                rows = [row for row, _ in some]
                pending.append(self._begin(predicted, rows, [each for _, each in some], length, tokens))
                wait(self._ahead)  # no more of the features of a long clip than these are held

        def finish() -> list[WindowScores]:
            wait(0)
            return [heads.blend(own) for heads, own in zip(self._bundles, predicted, strict=True)]

        return finish

    def _begin(
        self,
        predicted: "list[_Predicted]",
        rows: list[int],
        windows: list[Audio],
        length: int,
        tokens: Sequence[Sequence[Tensor]],
    ) -> Callable[[], None]:
        """Begin with windows of one length; return what waits for them. On a GPU they are being computed still."""
        waveforms = self._encoder.upload(windows, length)
        frames, finite = self._encoder.encode(waveforms)
        stored = frames.shape[2]
        counts = [stored if self._hears_padding else valid_frames(each, stored, self._audio) for each in windows]
        own = [[each[row] for row in rows] for each in tokens]
        fetched = [_fetch(outputs, finite) for outputs in self._run_heads(frames, counts, own, half=self._half)]

        def finish() -> None:
            usable = [into.put(rows, *fetch()) for into, fetch in zip(predicted, fetched, strict=True)]
            bad = np.flatnonzero(~np.logical_and.reduce(usable)).tolist()
            if bad and self._half:  # windows without a valid prediction get another try in float32
                frames, finite = self._encoder.encode_fp32(waveforms[bad])
                some = [[each[i] for i in bad] for each in own]
                again = self._run_heads(frames, [counts[i] for i in bad], some, half=False)
                for into, outputs, known in zip(predicted, again, usable, strict=True):
                    missing = [place for place, i in enumerate(bad) if not known[i]]  # what is known stays as it is
                    if missing:
                        into.put([rows[i] for i in bad], *_fetch(outputs, finite)(), missing)

        return finish

    @torch.inference_mode()
    def _run_heads(
        self, frames: Tensor, counts: Sequence[int], tokens: Sequence[Sequence[Tensor]], *, half: bool
    ) -> "list[list[HasColumns]]":
        """Run each bundle's heads on the (layers, B, T, dim) features of B windows and their prompts."""
        by_clip = frames[:, :, : max(counts)].float().transpose(0, 1)  # (B, layers, T, dim)
        # Eight heads in float32 would take a GPU about as long as the encoder in half precision.
        with torch.autocast(frames.device.type, DTYPES[self._audio.precision], enabled=half):
            return [heads.run(by_clip, counts, own) for heads, own in zip(self._bundles, tokens, strict=True)]


class _Predicted:
    """What the members predict of N windows, as far as it is known.

    Attributes:
        usable: (N,) bool, of which windows every member's prediction is known and valid.
    """

    def __init__(self, windows: int, members: int) -> None:
        self.usable = np.zeros(windows, dtype=bool)
        self._columns: list[Columns] = [{} for _ in range(members)]

    def put(
        self,
        rows: Sequence[int],
        columns: Sequence[Columns],
        finite: NDArray[np.bool_],
        places: Sequence[int] | None = None,
    ) -> NDArray[np.bool_]:
        """Keep what the members predict of B windows.

        Args:
            rows: B, of the windows.
            columns: of each member.
            finite: (B,), whether the windows' features are.
            places: which of the B to keep; None: all.
        Returns:
            Of those that are kept, which predictions can be used.
        """
        kept = range(len(rows)) if places is None else places
        index, usable = [rows[place] for place in kept], finite[list(kept)].copy()
        for held, found in zip(self._columns, columns, strict=True):
            for name, values in found.items():
                own = values[list(kept)]
                usable &= valid_rows(own)
                held.setdefault(name, np.full((len(self.usable), *own.shape[1:]), np.nan))[index] = own
        self.usable[index] = usable
        return usable

    def usable_columns(self) -> list[Columns]:
        """Return what each member predicts of the usable windows."""
        return [{name: values[self.usable] for name, values in each.items()} for each in self._columns]

    def members(self, names: tuple[str, ...]) -> Members:
        """Return the same as a fusion takes it."""
        columns = self.usable_columns()
        return Members(
            names,
            {target: np.stack([each[target] for each in columns]) for target in TARGETS},
            {target: [each.get(f"{target}_dist") for each in columns] for target in TARGETS},
        )


def _fetch(outputs: Sequence[HasColumns], finite: Tensor) -> Callable[[], tuple[list[Columns], NDArray[np.bool_]]]:
    """Begin to fetch what the members gave for B windows, and whether the windows' features are finite.

    Returns:
        What waits for that, and for nothing that a GPU has to do later: the columns of each member, and (B,) flags.
    """
    columns = [{name: _on_host(value.double()) for name, value in output.columns().items()} for output in outputs]
    flags = _on_host(finite)
    done: Any = None
    if finite.device.type == "cuda":
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(finite.device))

    def wait() -> tuple[list[Columns], NDArray[np.bool_]]:
        if done is not None:
            done.synchronize()
        return [{name: value.numpy() for name, value in each.items()} for each in columns], flags.numpy()

    return wait


def _on_host(tensor: Tensor) -> Tensor:
    """Begin to copy a tensor to memory that the GPU reaches by itself."""
    if tensor.device.type != "cuda":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
