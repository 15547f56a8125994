"""A bundle at work: windows of sound and prompts in, the fused scores of each window out."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audiomos_cache.audio.decode import Audio
from audiomos_cache.batch import chunks, valid_mask
from audiomos_cache.bundle.calibration import spreads
from audiomos_cache.bundle.load import Bundle
from audiomos_cache.encoders.base import DTYPES, AudioEncoder, TextEncoder
from audiomos_cache.evaluation.predictions import MAX_SCORE
from audiomos_cache.extraction.batching import group_by_length, prompt_batches
from audiomos_cache.extraction.encoding import EncodedWaveforms, WaveformEncoder, valid_frames
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.extraction.transfer import on_own_stream, staging_for
from audiomos_cache.fusion.base import Members
from audiomos_cache.heads.model import HeadOutput
from audiomos_cache.targets import HIGHEST, LOWEST, TARGETS, Floats

MOST_KEPT = 1024  # prompts; of 128 tokens and 768 dimensions, 200 MB


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """One prompt.

    Attributes:
        tokens: (L, dim) in the dtype that features are stored in, on the CPU.
        cut: whether the prompt was longer than the encoder's most tokens.
        finite: whether the tokens are.
    """

    tokens: Tensor
    cut: bool
    finite: bool


class Prompts:
    """The prompts met last, encoded in batches of one number of tokens: a prompt never sees another's padding.

    Args:
        text: the encoder.
        dtype: that features are stored in.
        batch_size: prompts encoded at once.
        device: where the encoder is.
    """

    def __init__(self, text: TextEncoder, dtype: torch.dtype, batch_size: int, device: torch.device) -> None:
        self._text, self._dtype, self._batch_size, self._device = text, dtype, batch_size, device
        self._known: dict[str, PromptTokens] = {}

    def encode(self, prompts: Iterable[str]) -> dict[str, PromptTokens]:
        """Return the tokens of each distinct prompt; what is known is not encoded again."""
        wanted = dict.fromkeys(prompts)
        unknown = [prompt for prompt in wanted if prompt not in self._known]
        if unknown:
            with on_own_stream(self._device):  # fetching tokens does not wait for the audio encoder
                for batch in prompt_batches(self._text, unknown, self._batch_size):
                    self._encode(batch)
        # Those asked for now come last, and are kept longest.
        found = {prompt: self._known.pop(prompt) for prompt in wanted}
        self._known |= found
        for oldest in list(self._known)[: max(0, len(self._known) - MOST_KEPT)]:
            del self._known[oldest]
        return found

    def _encode(self, batch: Sequence[str]) -> None:
        for prompt, features in zip(batch, self._text.encode(batch), strict=True):
            tokens = features.tokens.to(self._dtype)
            self._known[prompt] = PromptTokens(tokens, features.cut, bool(tokens.isfinite().all()))


Fetched = Callable[[], tuple[list[dict[str, NDArray[np.float64]]], NDArray[np.bool_]]]


@dataclass(frozen=True, slots=True)
class WindowScores:
    """What a bundle says about N windows, by target; NaN where the encoder or a head gives NaN or Inf.

    Attributes:
        scores: (N,) from 1 to 5 each.
        spreads: (N,) each, see `audiomos_cache.bundle.calibration.spreads`.
    """

    scores: dict[str, Floats]
    spreads: dict[str, Floats]

    @property
    def finite(self) -> bool:
        """Whether every window has a score."""
        return all(np.isfinite(scores).all() for scores in self.scores.values())

    def rows(self, some: slice) -> "WindowScores":
        """Return what is said about some of the windows."""
        return WindowScores(*({t: values[some] for t, values in each.items()} for each in (self.scores, self.spreads)))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Windows of one length on their way: on a GPU they are being computed still.

    Attributes:
        places: of its windows among those that were given together.
        frames: how many valid ones each window has.
        tokens: of each window's prompt.
        encoded: their features.
        fetched: what waits for what the members say, see `_fetch`.
    """

    places: list[int]
    frames: list[int]
    tokens: list[Tensor]
    encoded: EncodedWaveforms
    fetched: Fetched


@dataclass(frozen=True, slots=True)
class _Said:
    """What the members say about some windows: `columns` are those of `Predictions`, member by member."""

    places: list[int]
    columns: list[dict[str, NDArray[np.float64]]]

    def take(self, rows: NDArray[np.bool_]) -> "_Said":
        """Return what is said about some of the windows."""
        places = [place for place, wanted in zip(self.places, rows, strict=True) if wanted]
        return _Said(places, [{name: each[rows] for name, each in columns.items()} for columns in self.columns])

    def usable(self) -> NDArray[np.bool_]:
        """Say about which windows every member says something that is a prediction, (N,)."""
        usable = np.ones(len(self.places), dtype=bool)
        for name, values in (item for columns in self.columns for item in columns.items()):
            usable &= np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if name in TARGETS:
                usable &= abs(values) <= MAX_SCORE
        return usable


@dataclass(slots=True)
class Batch:
    """Windows that were begun together; what is said about the first of them is there already."""

    windows: int
    said: list[_Said] = field(default_factory=list)
    pending: deque[_Piece] = field(default_factory=deque)


class BundleOnDevice:
    """The heads of a bundle beside the encoder that makes their features.

    Attributes:
        prepare: what is to be done with a decoded window before it is given to `start`, on any thread.
    """

    def __init__(self, bundle: Bundle, audio: AudioEncoder, options: ExtractionOptions) -> None:
        self._bundle, self._audio, self._options = bundle, audio, options
        staging = staging_for(audio)
        self.prepare = staging.prepare
        self._encoder = WaveformEncoder(audio, options, staging)
        self._half = audio.precision != "fp32"
        self._ahead = 1 if audio.device.type == "cuda" else 0  # pieces that are not waited for when the next is begun
        rows = {number: row for row, number in enumerate(audio.layers)}
        self._members = [
            (member.head.to(audio.device).eval(), [rows[number] for number in member.layers])
            for member in bundle.members
        ]

    def start(self, windows: Sequence[Audio], tokens: Sequence[Tensor]) -> Batch:
        """Begin to score windows, those of one length together.

        Args:
            windows: N, as `prepare` gave them.
            tokens: (L, dim) of each window's prompt.
        """
        batch = Batch(len(windows))
        for length, same in group_by_length(enumerate(windows), self._audio, self._options).items():
            for some in chunks(same, self._options.batch_size):
                places, sounds = [place for place, _ in some], [sound for _, sound in some]
                encoded = self._encoder.encode(sounds, length)
                valid = [valid_frames(sound, encoded.frames.shape[2], self._audio) for sound in sounds]
                own = [tokens[place] for place in places]
                fetched = _fetch(self._heads(encoded, valid, own, half=self._half), encoded.finite)
                batch.pending.append(_Piece(places, valid, own, encoded, fetched))
                self._wait(batch, self._ahead)  # no more of the features of a long clip than these are held
        return batch

    def finish(self, batch: Batch) -> WindowScores:
        """Wait for the windows that were begun together, and fuse what the members say of each."""
        self._wait(batch, 0)
        found = WindowScores(*({target: np.full(batch.windows, np.nan) for target in TARGETS} for _ in range(2)))
        places = [place for said in batch.said for place in said.places]
        if not places:
            return found
        columns = [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in zip(*(said.columns for said in batch.said), strict=True)
        ]
        members = Members(
            self._bundle.fusion.names,
            {target: np.stack([each[target] for each in columns]) for target in TARGETS},
            {target: [each.get(f"{target}_dist") for each in columns] for target in TARGETS},
        )
        blend = self._bundle.fusion.apply(members)
        for target in TARGETS:
            found.scores[target][places] = blend.scores[target].clip(LOWEST, HIGHEST)
            found.spreads[target][places] = spreads(members, blend, target)
        return found

    def _wait(self, batch: Batch, pending: int) -> None:
        """Wait until no more than so many pieces are on their way."""
        while len(batch.pending) > pending:
            batch.said += self._said(batch.pending.popleft())

    def _said(self, piece: _Piece) -> list[_Said]:
        """Wait for a piece; windows that are not finite get another try in float32, and are then left out."""
        said, usable = _usable(piece.places, piece.fetched)
        found = [said.take(usable)]
        if not usable.all() and self._half:
            rows = np.flatnonzero(~usable).tolist()
            encoded = self._encoder.encode_fp32(piece.encoded.waveforms[rows])
            frames, tokens = [piece.frames[row] for row in rows], [piece.tokens[row] for row in rows]
            outputs = self._heads(encoded, frames, tokens, half=False)
            again, usable = _usable([piece.places[row] for row in rows], _fetch(outputs, encoded.finite))
            found.append(again.take(usable))
        return [each for each in found if each.places]

    @torch.inference_mode()
    def _heads(
        self, encoded: EncodedWaveforms, lengths: Sequence[int], tokens: Sequence[Tensor], *, half: bool
    ) -> list[HeadOutput]:
        """Run every member on the features of B windows and their prompts."""
        device, longest = encoded.frames.device, max(lengths)
        by_clip = encoded.frames[:, :, :longest].float().transpose(0, 1)  # (B, layers, T, dim)
        frame_mask = _sent(valid_mask(torch.tensor(lengths), longest), device)
        padded = _sent(pad_sequence(list(tokens), batch_first=True), device).float()
        token_mask = _sent(valid_mask(torch.tensor([len(each) for each in tokens]), padded.shape[1]), device)
        outputs = []
        # Eight heads in float32 would take a GPU about as long as the encoder in half precision.
        with torch.autocast(device.type, DTYPES[self._audio.precision], enabled=half):
            for head, layers in self._members:
                own = by_clip[:, layers] if len(layers) > 1 else by_clip[:, layers[0]]
                outputs.append(head(own, frame_mask, padded, token_mask))
        return outputs


def _fetch(outputs: Sequence[HeadOutput], finite: Tensor) -> Fetched:
    """Begin to fetch what the members gave for B windows, and whether the windows' features are finite.

    Returns:
        What waits for that, and for nothing that a GPU is told to do later: by member the columns of `Predictions`, and
        (B,) flags.
    """
    told = [{name: _on_host(value.double()) for name, value in output.columns().items()} for output in outputs]
    flags = _on_host(finite)
    there: Any = None
    if finite.device.type == "cuda":
        there = torch.cuda.Event()  # type: ignore[no-untyped-call]
        there.record(torch.cuda.current_stream(finite.device))

    def wait() -> tuple[list[dict[str, NDArray[np.float64]]], NDArray[np.bool_]]:
        if there is not None:
            there.synchronize()
        return [{name: value.numpy() for name, value in columns.items()} for columns in told], flags.numpy()

    return wait


def _on_host(tensor: Tensor) -> Tensor:
    """Begin to copy a tensor to memory that the GPU reaches by itself."""
    if tensor.device.type != "cuda":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def _usable(places: list[int], fetched: Fetched) -> tuple[_Said, NDArray[np.bool_]]:
    """Wait for what is said about windows, and say of which of them it can be used."""
    columns, finite = fetched()
    said = _Said(places, columns)
    return said, said.usable() & finite


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to a device, without waiting for what it is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
