"""What can be shown, without a GPU, of the way there and back, and of the order of things beside it."""

import contextlib
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from audiomos_cache.audio.resample import resample, resampler_on
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.paths import part_files
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import EncoderError
from audiomos_cache.extraction import encoding, pipeline
from audiomos_cache.extraction.batching import decode_threads
from audiomos_cache.extraction.transfer import CpuTransfer, resample_rows
from audiomos_cache.testing.fakes import FakeTextEncoder
from tests.support.extraction import PAD, LoggingEncoder, clean_bytes, extract, make_clips


@pytest.mark.parametrize(("rate", "new_rate"), [(16_000, 24_000), (44_100, 24_000), (48_000, 24_000), (24_000, 24_000)])
def test_clips_resampled_together_are_those_resampled_alone(rate, new_rate):
    """Each followed by zeros in the batch, and by zeros after it, where the filter would ring."""
    rng = np.random.default_rng(0)
    clips = [rng.uniform(-1, 1, size).astype(np.float32) for size in (rate, rate // 2 + 1, 777, 1)]
    alone = [resample(clip, rate, new_rate) for clip in clips]
    rows = torch.zeros(len(clips), rate)
    for row, clip in zip(rows, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    found = resample_rows(rows, torch.tensor([len(samples) for samples in alone]), rate, new_rate).numpy()
    assert found.shape == (4, new_rate)
    for row, samples in zip(found, alone, strict=True):
        np.testing.assert_allclose(row[: len(samples)], samples, rtol=0, atol=1e-6)
        assert not row[len(samples) :].any()


def test_rates_without_a_common_divisor_are_not_resampled_there():
    assert resampler_on("cpu", 44_099, 24_000) is None


def test_threads_that_decode(monkeypatch):
    for cores, beside_a_gpu, beside_a_cpu in ((1, 1, 1), (2, 1, 2), (16, 8, 2), (64, 8, 2), (None, 1, 1)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert decode_threads(torch.device("cuda")) == beside_a_gpu
        assert decode_threads(torch.device("cpu")) == beside_a_cpu


@dataclass
class OnGpu(LoggingEncoder):
    """Says that it is on a GPU."""

    @property
    def device(self):
        return torch.device("cuda")


@dataclass
class SlowText(FakeTextEncoder):
    """Begins once the audio of two batches is encoded."""

    audio: OnGpu | None = None

    def encode(self, prompts):
        while len(self.audio.batches) < 2:
            assert threading.current_thread().name == "write"
        return super().encode(prompts)


@pytest.fixture
def gpu(monkeypatch):
    """All of what an extraction does for a GPU, but the copies."""
    for module in (pipeline, encoding):
        monkeypatch.setattr(module, "transfer_for", CpuTransfer)
    monkeypatch.setattr(pipeline, "on_own_stream", lambda _device: contextlib.nullcontext())
    monkeypatch.setattr(pipeline, "decode_threads", lambda _device: 2)
    return OnGpu()


def test_prompts_are_encoded_beside_the_first_batches(tmp_path, gpu):
    clips = make_clips(tmp_path)
    expected = clean_bytes(clips, tmp_path / "clean")
    summary = extract(clips, tmp_path / "cache", PAD, gpu, SlowText(audio=gpu))
    assert (tmp_path / "cache" / "train.h5").read_bytes() == expected
    assert summary.encoded == 10


@pytest.mark.parametrize("in_place", [False, None])
def test_an_interrupt_during_the_prompts_keeps_what_is_encoded(tmp_path, gpu, in_place):
    clips, cache = make_clips(tmp_path), tmp_path / "cache"
    expected = clean_bytes(clips, tmp_path / "clean")
    gpu.fails_at = 2
    options = replace(PAD, in_place=in_place)
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, options, gpu, SlowText(audio=gpu))
    assert sum(len(CacheFile(part)) for part in part_files(cache, "train")) == 6
    assert extract(clips, cache, options, OnGpu()).encoded == 4
    assert (cache / "train.h5").read_bytes() == expected


def test_a_prompt_that_cannot_be_used_is_found_out_beside(tmp_path, gpu):
    class BadText(SlowText):
        def encode(self, prompts):
            features = super().encode(prompts)
            for prompt, each in zip(prompts, features, strict=True):
                if prompt == "sad guitar":
                    each.tokens[0] = torch.nan
            return features

    clips, cache = make_clips(tmp_path), tmp_path / "cache"
    bad = [clip.id for clip in clips if clip.prompt == "sad guitar"]
    with pytest.raises(EncoderError, match="prompt 'sad guitar': fake-text gives NaN or Inf as float16"):
        extract(clips, cache, PAD, gpu, BadText(audio=gpu))
    again = OnGpu()
    summary = extract(clips, cache, replace(PAD, on_error="skip"), again, BadText(audio=again))
    assert [clip_id for clip_id, _ in summary.skipped] == bad != []
    assert CacheReader(cache, "train").ids == [clip.id for clip in clips if clip.id not in bad]
