"""Helpers of the tests of heads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.presets import load_head_config

AUDIO_DIM, TEXT_DIM = 32, 24


@dataclass
class Clips:
    """A batch for a head, whose rows may be padded."""

    frames: Tensor
    frame_mask: Tensor
    tokens: Tensor
    token_mask: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.frames, self.frame_mask, self.tokens, self.token_mask))

    def row(self, i: int) -> "Clips":
        """Return clip i alone, without its padding."""
        frames, tokens = self.frames[i : i + 1, self.frame_mask[i]], self.tokens[i : i + 1, self.token_mask[i]]
        return Clips(
            frames,
            torch.ones(frames.shape[:2], dtype=torch.bool),
            tokens,
            torch.ones(tokens.shape[:2], dtype=torch.bool),
        )

    def permuted(self, order: list[int]) -> "Clips":
        return Clips(*(x[order] for x in self))


MakeClips = Callable[..., Clips]
Randomise = Callable[..., nn.Module]


@pytest.fixture
def make_clips() -> MakeClips:
    """Make clips of given lengths; padding holds the largest numbers that float16 has."""

    def make(
        frame_lengths: list[int],
        token_lengths: list[int],
        audio_dim: int = AUDIO_DIM,
        text_dim: int = TEXT_DIM,
        seed: int = 0,
    ) -> Clips:
        generator = torch.Generator().manual_seed(seed)

        def sequences(lengths: list[int], dim: int) -> tuple[Tensor, Tensor]:
            features = torch.randn(len(lengths), max(lengths), dim, generator=generator)
            mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
            garbage = torch.where(torch.rand(features.shape, generator=generator) < 0.5, 65504.0, -65504.0)
            return torch.where(mask[..., None], features, garbage), mask

        return Clips(*sequences(frame_lengths, audio_dim), *sequences(token_lengths, text_dim))

    return make


@pytest.fixture
def randomise() -> Randomise:
    """Draw a head's weights wide enough for its scores to differ visibly from clip to clip."""

    def draw(head: nn.Module, seed: int = 1, scale: float = 0.2) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
        return head

    return draw


@pytest.fixture
def yaml_file(tmp_path: Path) -> Callable[[str], str]:
    """A function that writes the YAML file of a head, and returns its path."""

    def write(content: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write


def message_of(head: str, *overrides: str) -> str:
    """Return the message with which a head's config is refused."""
    with pytest.raises(ConfigError) as caught:
        load_head_config(head, overrides)
    return str(caught.value)
