"""Encoders that cost nothing and whose features can be worked out by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiomos_cache.encoders.base import Identity, Precision, TextFeatures


@dataclass
class FakeAudioEncoder:
    """Gives the mean of each 100 samples, in column 0, and its square, its negative, ... in the others.

    These are the frames of layer 0; those of layer k are greater by k.

    Attributes:
        dim: width of a frame, at most 4.
        layers: any indices from 0, in ascending order.
        seconds_per_batch: how long to pretend to work.
        encoded: number of waveforms encoded so far.
        precision: that it pretends to compute in.
    """

    dim: int = 4
    sample_rate_hz: int = 1000
    min_samples: int = 100
    name: str = "fake-audio"
    untrained: bool = True
    layers: tuple[int, ...] = (0,)
    seconds_per_batch: float = 0.0
    encoded: int = 0
    precision: Precision = "fp32"

    @property
    def device(self) -> torch.device:
        """Return the CPU."""
        return torch.device("cpu")

    def identity(self) -> Identity:
        """Return all that decides the value of a frame."""
        return {
            "class": "FakeAudioEncoder",
            "layers": ",".join(map(str, self.layers)),
            "dim": self.dim,
            "sample_rate_hz": self.sample_rate_hz,
        }

    def provenance(self) -> Identity:
        """Return where the weights came from."""
        return {"source": "none", "revision": "none"}

    def frames_for(self, samples: int) -> int:
        """Return one frame per 100 samples."""
        return samples // 100

    def encode(self, waveforms: Tensor) -> Tensor:
        """Turn (B, samples) into (layers, B, samples // 100, dim)."""
        if self.seconds_per_batch:
            import time

            time.sleep(self.seconds_per_batch)
        self.encoded += len(waveforms)
        whole = waveforms[:, : waveforms.shape[1] // 100 * 100]
        mean = whole.reshape(len(waveforms), -1, 100).mean(dim=2)
        frames = torch.stack((mean, mean.square(), -mean, mean + 1)[: self.dim], dim=2)
        return torch.stack([frames + layer for layer in self.layers])

    def encode_fp32(self, waveforms: Tensor) -> Tensor:
        """Do what `encode` does."""
        return self.encode(waveforms)

    def working_bytes(self, samples: int) -> int:
        """Return the size of the samples and the frames."""
        return 4 * (samples + self.frames_for(samples) * self.dim * len(self.layers))


@dataclass
class FakeTextEncoder:
    """Gives a token per word: its number of letters, and its index. A padding position gives the number of words.

    Attributes:
        dim: width of a token, at most 2.
        encoded: the prompts encoded so far.
    """

    dim: int = 2
    max_tokens: int = 8
    name: str = "fake-text"
    untrained: bool = True

    def __post_init__(self) -> None:
        self.encoded: list[str] = []

    def identity(self) -> Identity:
        """Return all that decides the value of a token."""
        return {"class": "FakeTextEncoder", "max_tokens": self.max_tokens}

    def provenance(self) -> Identity:
        """Return where the weights came from."""
        return {"source": "none", "revision": "none"}

    def count_tokens(self, prompt: str) -> int:
        """Return the number of words, at least 1."""
        return len(self._words(prompt)[: self.max_tokens])

    def encode(self, prompts: Sequence[str]) -> list[TextFeatures]:
        """Encode prompts of one and the same number of words."""
        if len({self.count_tokens(prompt) for prompt in prompts}) != 1:
            raise ValueError("prompts of one batch must have the same number of tokens")
        self.encoded += prompts
        return [self._features(self._words(prompt)) for prompt in prompts]

    def _features(self, words: list[str]) -> TextFeatures:
        kept = words[: self.max_tokens]
        tokens = torch.tensor([[float(len(word)), float(index)] for index, word in enumerate(kept)])
        pad_vector = torch.full((self.dim,), float(len(kept)))
        return TextFeatures(tokens[:, : self.dim], pad_vector, cut=len(words) > len(kept))

    @staticmethod
    def _words(prompt: str) -> list[str]:
        return prompt.split() or [""]
