"""A bundle at work: windows of sound and prompts in, the fused scores of each window out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audiomos_cache.audio import Audio
from audiomos_cache.bundle import Bundle, spreads
from audiomos_cache.encoders import AudioEncoder
from audiomos_cache.encoders.base import DTYPES
from audiomos_cache.extraction import ExtractionOptions
from audiomos_cache.extraction.encoding import EncodedWaveforms, WaveformEncoder, valid_frames
from audiomos_cache.extraction.staging import staging_for
from audiomos_cache.extraction.waveforms import group_by_length
from audiomos_cache.heads import HeadOutput
from audiomos_cache.metrics import TARGETS, Floats
from audiomos_cache.predictions import Predictions
from audiomos_cache.sequences import chunks
from audiomos_cache.targets import HIGHEST, LOWEST
from audiomos_cache.training.inference import columns_of


@dataclass(frozen=True, slots=True)
class WindowScores:
    """What a bundle says about N windows, by target; NaN where the encoder gives NaN or Inf.

    Attributes:
        scores: (N,) from 1 to 5 each.
        spreads: (N,) each, see `audiomos_cache.bundle.spreads`.
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
class Piece:
    """Windows of one length on their way: on a GPU they are being computed still.

    Attributes:
        places: of its windows among those that were given together.
        frames: how many valid ones each window has.
        tokens: of each window's prompt.
        encoded: their features.
        outputs: of each member.
    """

    places: list[int]
    frames: list[int]
    tokens: list[Tensor]
    encoded: EncodedWaveforms
    outputs: list[HeadOutput]


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
        rows = {number: row for row, number in enumerate(audio.layers)}
        self._members = [
            (member.head.to(audio.device).eval(), [rows[number] for number in member.layers])
            for member in bundle.members
        ]

    def start(self, windows: Sequence[Audio], tokens: Sequence[Tensor]) -> list[Piece]:
        """Begin to score windows, those of one length together.

        Args:
            windows: N, as `prepare` gave them.
            tokens: (L, dim) of each window's prompt.
        """
        pieces = []
        for length, same in group_by_length(enumerate(windows), self._audio, self._options).items():
            for some in chunks(same, self._options.batch_size):
                places, sounds = [place for place, _ in some], [sound for _, sound in some]
                encoded = self._encoder.encode(sounds, length)
                valid = [valid_frames(sound, encoded.frames.shape[2], self._audio) for sound in sounds]
                pieces.append(self._piece(places, valid, [tokens[place] for place in places], encoded))
        return pieces

    def finish(self, pieces: Sequence[Piece]) -> WindowScores:
        """Wait for the windows that were begun together, and fuse what the members say of each."""
        windows = sum(len(piece.places) for piece in pieces)
        finished = [each for piece in pieces for each in self._finite(piece)]
        found = WindowScores(*({target: np.full(windows, np.nan) for target in TARGETS} for _ in range(2)))
        if not finished:
            return found
        places = [place for piece in finished for place in piece.places]
        ids = [f"{place:012d}" for place in places]  # sorted as the places are
        by_member = zip(*(piece.outputs for piece in finished), strict=True)
        members = [Predictions.build(ids, **columns_of(outputs)) for outputs in by_member]
        fused = self._bundle.fusion.apply(members)
        rows = sorted(places)
        for target in TARGETS:
            found.scores[target][rows] = getattr(fused, target).clip(LOWEST, HIGHEST)
            found.spreads[target][rows] = spreads(members, fused, target)
        return found

    def _piece(self, places: list[int], frames: list[int], tokens: list[Tensor], encoded: EncodedWaveforms) -> Piece:
        outputs = self._heads(encoded.frames[:, :, : max(frames)], frames, tokens)
        return Piece(places, frames, tokens, encoded, outputs)

    @torch.inference_mode()
    def _heads(self, frames: Tensor, lengths: Sequence[int], tokens: Sequence[Tensor]) -> list[HeadOutput]:
        """Run every member on (layers, B, T, dim) frames and B prompts."""
        device = frames.device
        by_clip = frames.float().transpose(0, 1)  # (B, layers, T, dim)
        frame_mask = _mask(lengths, frames.shape[2], device)
        padded = pad_sequence(list(tokens), batch_first=True).to(device).float()
        token_mask = _mask([len(each) for each in tokens], padded.shape[1], device)
        outputs = []
        # Eight heads in float32 would take a GPU about as long as the encoder in half precision.
        half = self._audio.precision != "fp32"
        with torch.autocast(device.type, DTYPES[self._audio.precision], enabled=half):
            for head, layers in self._members:
                own = by_clip[:, layers] if len(layers) > 1 else by_clip[:, layers[0]]
                outputs.append(head.compute(own, frame_mask, padded, token_mask))
        return outputs

    def _finite(self, piece: Piece) -> list[Piece]:
        """Leave out the windows whose features are not finite, after another try in float32."""
        fine: list[bool] = piece.encoded.finite.tolist()
        if all(fine):
            return [piece]
        good, bad = ([place for place, ok in enumerate(fine) if ok is wanted] for wanted in (True, False))
        found = [self._part(piece, good, piece.encoded.take(good))] if good else []
        if self._audio.precision != "fp32":
            again = self._encoder.encode_fp32(piece.encoded.waveforms[bad])
            if mended := [place for place, ok in enumerate(again.finite.tolist()) if ok]:
                found.append(self._part(piece, [bad[place] for place in mended], again.take(mended)))
        return found

    def _part(self, piece: Piece, rows: Sequence[int], encoded: EncodedWaveforms) -> Piece:
        places, frames, tokens = piece.places, piece.frames, piece.tokens
        return self._piece([places[i] for i in rows], [frames[i] for i in rows], [tokens[i] for i in rows], encoded)


def _mask(lengths: Sequence[int], longest: int, device: torch.device) -> Tensor:
    return (torch.arange(longest) < torch.tensor(lengths)[:, None]).to(device)
