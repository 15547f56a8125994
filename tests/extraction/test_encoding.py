"""Batches that do not fit into the GPU's memory, and clips that overflow in half precision."""

import numpy as np
import pytest
import torch

from audiomos_cache.audio.decode import Audio
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.encoders.tiny import load_muq_tiny
from audiomos_cache.errors import EncoderError
from audiomos_cache.extraction.encoding import BatchEncoder, InPieces
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from tests.support.extraction import make_clips

OPTIONS = ExtractionOptions(pad_to_s=1.0)


class SmallMemory:
    """Encodes at most so many clips at once."""

    def __init__(self, most):
        self.most, self.sizes = most, []

    def __call__(self, waveforms):
        self.sizes.append(len(waveforms))
        if len(waveforms) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return waveforms[None, :, None] * 2


def test_batches_are_halved_where_memory_runs_out(caplog):
    encode = SmallMemory(3)
    in_pieces = InPieces(encode)
    waveforms = torch.arange(20.0).reshape(10, 2)
    assert torch.equal(in_pieces(waveforms), waveforms[None, :, None] * 2)
    assert encode.sizes == [10, 5, 2, 2, 2, 2, 2]
    assert "out of GPU memory with 10 clips at once; continuing with 5" in caplog.text
    encode.sizes.clear()
    in_pieces(waveforms[:5])
    assert encode.sizes == [2, 2, 1]  # not tried again


def test_a_clip_that_does_not_fit_at_all():
    with pytest.raises(EncoderError, match="memory does not hold a single clip; free some of it, or give --device cpu"):
        InPieces(SmallMemory(0))(torch.zeros(3, 2))


class Overflowing(FakeAudioEncoder):
    """In half precision, NaN for clips whose first sample is above 0.5; in float32 too where it is above 0.9."""

    def encode(self, waveforms):
        frames = super().encode(waveforms)
        frames[:, waveforms[:, 0] > 0.5] = torch.nan
        return frames

    def encode_fp32(self, waveforms):
        self.again = len(waveforms)
        frames = super().encode(waveforms)
        frames[:, waveforms[:, 0] > 0.9] = torch.inf
        return frames


def decoded(value):
    clip = Clip(f"clip{value}", f"{value}.wav", "S001", "P001", "a prompt", "train", 1, 2)
    return clip, Audio(np.full(1000, value, np.float32), 1000, 1000, 1.0, bytes(16), ())


def test_clips_that_overflow_are_encoded_again_in_float32():
    encoder = Overflowing(precision="fp16")
    batches = BatchEncoder(encoder, OPTIONS)
    (started,) = batches.start([decoded(value) for value in (0.25, 0.75, 0.5, 1.0)])
    found = {clip.id: what for clip, what in batches.finish(started)}
    assert encoder.again == 2  # only those
    for value in (0.25, 0.5, 0.75):
        assert (found[f"clip{value}"][1][0, :, 0] == value).all()
    problem = "fake-audio gives NaN or Inf as float16 (--dtype float32 holds larger values)"
    assert str(found["clip1.0"]) == f"clip1.0: {problem}; check 1.0.wav"
    assert batches.notes == [f"clip{value}: NaN or Inf in fp16, encoded in fp32" for value in (0.75, 1.0)]


def test_in_float32_there_is_nothing_to_try_again():
    encoder = Overflowing()
    batches = BatchEncoder(encoder, OPTIONS)
    (started,) = batches.start([decoded(0.75)])
    ((_, error),) = batches.finish(started)
    assert isinstance(error, EncoderError)
    assert (batches.notes, hasattr(encoder, "again")) == ([], False)


def test_an_extraction_warns_of_what_was_encoded_in_float32(tmp_path):
    clips = make_clips(tmp_path)  # the first samples are 0/16, 1/16, ... 9/16
    summary = extract_split(clips, tmp_path / "half", Overflowing(precision="fp16"), FakeTextEncoder(), OPTIONS)
    assert summary.warnings == [f"{clips[9].id}: NaN or Inf in fp16, encoded in fp32"]
    assert summary.encoded == 10


def test_a_real_encoder_that_overflows():
    """Twice as many clips, half of which are silent, through a network that gives Inf for all of them."""
    encoder = load_muq_tiny(precision="fp16")
    with torch.no_grad():
        encoder._model.conformer.layers[1].ffn2.output_dense.bias[3] = -3e6
    encoder._fast = encoder._arranged("fp16")
    batches = BatchEncoder(encoder, OPTIONS)
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 24_000)).astype(np.float32)
    clips = [(decoded(i)[0], Audio(row, 24_000, 24_000, 1.0, bytes(16), ())) for i, row in enumerate(noise)]
    (started,) = batches.start(clips)
    found = [what[1] for _, what in batches.finish(started)]
    expected = encoder.encode_fp32(torch.from_numpy(noise)).half().numpy()
    assert np.array_equal(np.stack(found, axis=1), expected)
    assert len(batches.notes) == 2
