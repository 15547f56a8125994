"""Both encoders in every step, in fp32, as the published code runs them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from audiomos_cache.encoders.base import TextEncoder
from audiomos_cache.encoders.lookup import load_text_encoder
from audiomos_cache.encoders.muq import build_muq
from audiomos_cache.encoders.tiny import TINY_MUQ_CONFIG

SAMPLES = 30 * 24_000
PROMPT = "a slow, moody piano ballad in D minor"


def inside_encoders(device: torch.device) -> tuple[Callable[[list[int]], tuple[Tensor, Tensor]], tuple[int, int]]:
    """Return what encodes the clips at some indices, noise of 30 s, and the widths of frames and tokens.

    Of full size with random weights on a GPU, tiny ones on a CPU. MuQ is its package's own, part by part.
    """
    config: dict[str, Any] = TINY_MUQ_CONFIG
    roberta: TextEncoder
    if device.type == "cuda":
        from full_size import FULL_MUQ_CONFIG, random_roberta

        config, roberta = FULL_MUQ_CONFIG, random_roberta("cuda")
    else:
        roberta = load_text_encoder("roberta-tiny")
    muq = build_muq(config).model.to(device)

    @torch.no_grad()
    def encode(indices: list[int]) -> tuple[Tensor, Tensor]:
        waveforms = torch.rand(len(indices), SAMPLES, device=device) - 0.5
        mel = muq.normalize(muq.preprocessing(waveforms, features=["melspec_2048"]))
        frames = muq.conformer(muq.conv(mel["melspec_2048"])).last_hidden_state
        tokens = torch.stack([each.tokens for each in roberta.encode([PROMPT] * len(indices))]).to(device)
        return frames, tokens

    return encode, (int(config["encoder_dim"]), roberta.dim)
