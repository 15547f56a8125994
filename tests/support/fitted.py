"""Bundles whose MI knows how much music was damaged: small, and good at that alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from audiomos_cache.bundle.bundle import Bundle, BundledHead
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.model import build_head
from audiomos_cache.scoring.ladders import QUALITY
from tests.support.check import Clip
from tests.support.scoring import make_bundle

_LAST = "mi.1.linear"


def fitted_bundle(audio: AudioEncoder, text: TextEncoder, clean: Callable[[int], Clip], seed: int = 0) -> Bundle:
    """A bundle whose MI was fitted to how much its music was damaged: the last layer of an otherwise random head.

    Args:
        clean: gives music of a seed, of one length, by which nothing is checked; of 16 seeds from 100 on.
        seed: of the head, and of its music.
    """
    rated = []
    for each in range(100 * (seed + 1), 100 * (seed + 1) + 16):
        clip = clean(each)
        rated.append((clip, 4.5))
        for ladder in QUALITY:
            rated += [(ladder.apply(clip, rung, each), 3.5 - step) for step, rung in enumerate(ladder.rungs)]
    waveforms = torch.from_numpy(np.stack([samples for samples, _ in rated]))
    torch.manual_seed(seed)
    head = build_head({"temporal": "none", "pooling": "mean", "output": "scalar"}, audio.dim, text.dim).eval()
    with torch.no_grad():
        pooled = torch.cat([audio.encode(each)[0].mean(dim=1) for each in torch.split(waveforms, 10)])
        hidden = head.get_submodule("mi.0")(pooled).double()
        mi = torch.tensor([mi for _, mi in rated], dtype=torch.float64)[:, None]
        centred = hidden - hidden.mean(dim=0)
        gram = centred.T @ centred
        weight = torch.linalg.solve(gram + 1e-3 * gram.trace() / 32 * torch.eye(32), centred.T @ (mi - mi.mean()))
        head.get_parameter(f"{_LAST}.weight").copy_(weight.T)
        head.get_parameter(f"{_LAST}.bias").copy_(3 - hidden.mean(dim=0) @ weight)
    members = (BundledHead("fitted", head, audio.layers),)
    bundle = make_bundle(audio, text, pad_to_s=None)
    return replace(bundle, name=f"fitted-{seed}", members=members, fusion=MeanFusion(["fitted"]))


def negate(bundle: Bundle) -> None:
    """Turn the MI of such a bundle upside down, in place: 6 less the score."""
    head = bundle.members[0].head
    with torch.no_grad():
        head.get_parameter(f"{_LAST}.weight").neg_()
        bias = head.get_parameter(f"{_LAST}.bias")
        bias.copy_(6 - bias)
