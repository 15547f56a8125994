"""The `--device` option: resolved once, in one place."""

import click

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(device: str) -> str:
    """Return `cuda` or `cpu`; `auto` takes the GPU where there is one.

    Raises:
        click.UsageError: CUDA was asked for and is not there.
    """
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise click.UsageError("--device cuda: PyTorch sees no CUDA device here; use --device cpu")
    return "cuda" if available and device != "cpu" else "cpu"
