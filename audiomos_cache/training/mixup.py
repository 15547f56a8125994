"""Mixup of cached frames: a head is trained on weighted means of two clips, and on the same mean of their losses.

The published AudioMOS code mixes waveforms and encodes the mixture. Here the encoders are frozen and have run before,
so it is their frames that are mixed. That is another thing: a frame of a mixture is not the mixture of two frames.

    order, lam = draw_mixup(len(frames), alpha, generator)
    output = head(*mix_frames(frames, frame_mask, order, lam), tokens, token_mask)
    loss = mixed_loss(loss_of(output, labels), loss_of(output, labels[order]), lam)

The prompts stay those of the first clip of each pair, as in the published code.
Source: Zhang et al. 2018 (mixup).
"""

import numpy as np
import torch
from torch import Tensor


def draw_mixup(clips: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Draw which clip each clip of a batch is mixed with, and how much remains of the first.

    Args:
        clips: how many the batch holds.
        alpha: above 0; lam is drawn from Beta(alpha, alpha): near 0 or 1 for a small one, near 1/2 for a large one.
        generator: of the CPU; the only source of chance.
    Returns:
        A permutation (clips,) int64, and lam from 0 to 1.
    """
    order = torch.randperm(clips, generator=generator)
    seed = int(torch.randint(2**63 - 1, (), generator=generator))  # torch's own Beta takes no generator
    return order, float(np.random.default_rng(seed).beta(alpha, alpha))


def mix_frames(frames: Tensor, frame_mask: Tensor, order: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Mix each clip with another: lam * frames + (1 - lam) * frames[order].

    Frames beyond a clip's end count as zero: where the other clip is longer, its rest remains, scaled.

    Args:
        frames: (B, T, D), or (B, K, T, D) of K layers, padded with anything.
        frame_mask: (B, T) bool, True = valid.
        order: (B,) int64, the index of each clip's other clip.
        lam: the weight of the first clip, 0 to 1.
    Returns:
        Mixed frames, shape and dtype of `frames`, 0 where padded, and their mask (B, T): valid where either clip is.
    """
    valid = frame_mask[:, :, None] if frames.ndim == 3 else frame_mask[:, None, :, None]
    alone = frames.masked_fill(~valid, 0)
    return lam * alone + (1 - lam) * alone[order], frame_mask | frame_mask[order]


def mixed_loss(loss_a: Tensor, loss_b: Tensor, lam: float) -> Tensor:
    """Return lam * loss_a + (1 - lam) * loss_b: the losses against the labels of the first and of the second clips."""
    return lam * loss_a + (1 - lam) * loss_b
