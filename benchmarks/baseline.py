"""The straightforward ways to train a head, as one would write them down first: float32, a kernel at a time."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.training.data import ClipSet

Step = Callable[[list[int]], float]


def baseline_step(config: HeadConfig, clips: ClipSet, device: torch.device) -> Step:
    """Return what trains on the clips at some indices: features from RAM, padded, brought over, one step of AdamW."""
    reader = clips.first_reader
    frames = [torch.from_numpy(r.read_frames(i)) for r, i in clips.entries]
    tokens = [torch.from_numpy(r.read_prompt(i).tokens) for r, i in clips.entries]
    train = _training(config, clips, reader.audio_dim, reader.text_dim, device)

    def step(indices: list[int]) -> float:
        audio, text = ([of[i] for i in indices] for of in (frames, tokens))
        padded = [pad_sequence(each, batch_first=True).to(device).float() for each in (audio, text)]
        masks = [_mask(each).to(device) for each in (audio, text)]
        return train(padded[0], masks[0], padded[1], masks[1], indices)

    return step


def encoding_step(
    config: HeadConfig,
    clips: ClipSet,
    encode: Callable[[list[int]], tuple[Tensor, Tensor]],
    dims: tuple[int, int],
    device: torch.device,
) -> Step:
    """Return what runs both encoders in each step, and trains the head on what they give.

    Args:
        config: of the head.
        clips: for their labels.
        encode: gives frames (B, T, audio_dim) and tokens (B, L, text_dim) of the clips at some indices.
        dims: audio_dim and text_dim.
        device: of all.
    """
    train = _training(config, clips, *dims, device)

    def step(indices: list[int]) -> float:
        frames, tokens = encode(indices)
        masks = [torch.ones(each.shape[:2], dtype=torch.bool, device=device) for each in (frames, tokens)]
        return train(frames, masks[0], tokens, masks[1], indices)

    return step


def _training(
    config: HeadConfig, clips: ClipSet, audio_dim: int, text_dim: int, device: torch.device
) -> Callable[[Tensor, Tensor, Tensor, Tensor, list[int]], float]:
    torch.manual_seed(0)
    head = build_head(config, audio_dim, text_dim).to(device).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.training.lr, weight_decay=config.training.weight_decay)
    objective = objective_of(config)
    targets = [torch.tensor(objective.targets(each), dtype=torch.float32) for each in (clips.mi, clips.ta)]

    def train(frames: Tensor, frame_mask: Tensor, tokens: Tensor, token_mask: Tensor, indices: list[int]) -> float:
        output = head(frames, frame_mask, tokens, token_mask)
        mi, ta = (each[indices].to(device) for each in targets)
        loss = objective.loss(output.mi_output, mi) + objective.loss(output.ta_output, ta)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return train


def _mask(sequences: list[Tensor]) -> Tensor:
    lengths = torch.tensor([len(each) for each in sequences])
    return torch.arange(int(lengths.max())) < lengths[:, None]
