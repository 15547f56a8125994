import torch

from audiomos_cache.encoders.base import TextEncoder
from audiomos_cache.scoring import inference
from audiomos_cache.scoring.inference import Prompts

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
