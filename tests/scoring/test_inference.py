from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from audiomos_cache.audio.decode import Audio
from audiomos_cache.bundle.bundle import BundledHead
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.published.outputs import Scores
from audiomos_cache.scoring import inference
from audiomos_cache.scoring.encoders import options_of
from audiomos_cache.scoring.inference import BundlesOnDevice, Prompts
from audiomos_cache.targets import Target
from audiomos_cache.testing import FakeAudioEncoder
from tests.support.scoring import make_bundle

CPU = torch.device("cpu")


def test_tokens_are_the_encoders(text: TextEncoder) -> None:
    asked_for = ["rain", "Fast drums", "snow"]
    found = Prompts(text, torch.float16, 8, CPU).encode(asked_for)
    assert list(found) == asked_for
    for prompt in asked_for:
        (alone,) = text.encode([prompt])
        torch.testing.assert_close(found[prompt].tokens.float(), alone.tokens, atol=2e-3, rtol=0)
        assert found[prompt].tokens.dtype == torch.float16
        assert not found[prompt].cut


def test_those_met_last_are_kept(text: TextEncoder, monkeypatch) -> None:
    monkeypatch.setattr(inference, "MOST_KEPT", 2)
    kept = Prompts(text, torch.float32, 8, CPU)
    asked: list[str] = []
    encode = text.encode

    def counting(batch):
        asked.extend(batch)
        return encode(batch)

    monkeypatch.setattr(text, "encode", counting)
    kept.encode(["a", "bb"])
    kept.encode(["a"])
    kept.encode(["ccc"])  # now bb is the oldest
    assert asked == ["a", "bb", "ccc"]
    kept.encode(["a", "ccc"])
    assert asked == ["a", "bb", "ccc"]
    assert list(kept.encode(["bb", "dddd", "eeeee"])) == ["bb", "dddd", "eeeee"]  # more than are kept
    assert asked == ["a", "bb", "ccc", "bb", "dddd", "eeeee"]


class CoarseEncoder(FakeAudioEncoder):
    """Says that it computes in half precision, and gives other frames in float32."""

    again = 0

    def encode_fp32(self, waveforms: Tensor) -> Tensor:
        self.again += len(waveforms)
        return self.encode(waveforms) + 0.125


class MeanHead(torch.nn.Module):
    """The mean of column 0; NaN under autocast for windows of which `fails` is true."""

    def __init__(self, fails: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._fails = fails

    def forward(self, frames: Tensor, *_others: Tensor) -> Scores:
        mean = frames[:, :, 0].mean(dim=1) + 3
        if torch.is_autocast_enabled("cpu"):
            mean = torch.where(self._fails(mean), torch.nan, mean)
        return Scores({"mi": mean})


def never(mean: Tensor) -> Tensor:
    return torch.zeros_like(mean, dtype=torch.bool)


def loud(mean: Tensor) -> Tensor:
    return mean > 3.3


def always(mean: Tensor) -> Tensor:
    return torch.ones_like(mean, dtype=torch.bool)


def scores_in_half(audio: AudioEncoder, text: TextEncoder, *fails: Callable[[Tensor], Tensor]) -> list[list[float]]:
    """What bundles of one head give of three windows, of which the second is loud."""
    encoder = CoarseEncoder(precision="fp16")
    windows = [Audio(np.full(1000, level, np.float32), 1000, 1000, 1.0) for level in (0.1, 0.5, 0.2)]
    bundles = [
        replace(
            make_bundle(audio, text, pad_to_s=1.0),
            members=(BundledHead("mean", MeanHead(each), (0,)),),
            fusion=None,
            targets=(Target("mi"),),
        )
        for each in fails
    ]
    on_device = BundlesOnDevice(bundles, encoder, options_of(bundles[0].input, 4))
    tokens = [[torch.zeros(1, 2)] * 3 for _ in fails]
    found = on_device.start([on_device.prepare(each) for each in windows], tokens)()
    return [each["mi"][0].tolist() for each in found]


@pytest.mark.parametrize("fails", [loud, always])
def test_what_overflows_in_one_bundle_changes_no_score_of_another(
    fails: Callable[[Tensor], Tensor], audio: AudioEncoder, text: TextEncoder
) -> None:
    """Bit for bit: a window is tried again in float32 for the bundle alone that has no valid prediction of it."""
    [alone], [expected] = (scores_in_half(audio, text, each) for each in (never, fails))
    assert not np.isnan([alone, expected]).any()
    differs = [a != b for a, b in zip(alone, expected, strict=True)]
    assert differs == ([False, True, False] if fails is loud else [True] * 3)
    assert scores_in_half(audio, text, never, fails) == [alone, expected]
    assert scores_in_half(audio, text, fails, never) == [expected, alone]
