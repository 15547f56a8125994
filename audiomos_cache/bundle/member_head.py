"""The head of a bundle's member: that it is of the bundle's features, and built of weights that are its own."""

import torch
from torch import Tensor

from audiomos_cache.bundle.manifest import MemberEntry
from audiomos_cache.errors import first_five
from audiomos_cache.heads.model import Head, build_head
from audiomos_cache.input_spec import InputSpec


def refuse_other_features(entry: MemberEntry, features: InputSpec) -> None:
    """Refuse a head of other features than those of the fingerprint, or of another number of bins than its output has.

    Raises:
        ValueError: what differs.
    """
    stored = list(features.layers)
    for name, found, expected in (
        ("audio_layers", entry.audio_layers, stored),
        ("audio_dim", entry.audio_dim, features.audio_encoder.dim or entry.audio_dim),
        ("text_dim", entry.text_dim, features.text_encoder.dim or entry.text_dim),
        ("bins", entry.bins, entry.head.output.predicted_bins),
    ):
        if found != expected:
            raise ValueError(f"{name} {found}, expected {expected}")


def head_of(entry: MemberEntry, weights: dict[str, Tensor]) -> Head:
    """Build a head that computes as it did when it was trained.

    Raises:
        ConfigError: no head can be of these widths. ValueError: its tensors are others than those in `weights`, or
        not finite. RuntimeError, TypeError, OverflowError: its widths are beyond all tensors.
    """
    layers = getattr(entry.head.temporal, "layers", 0)
    if isinstance(layers, int) and layers > len(weights):
        raise ValueError(f"{len(weights)} tensors, expected some for each of {layers} layers")

    def build() -> Head:
        return build_head(entry.head, entry.audio_dim, entry.text_dim, layers=len(entry.audio_layers))

    with torch.device("meta"):  # takes no memory, however large its widths are
        expected = _described(build().state_dict())
    found = _described(weights)
    if other := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        differing = [f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'none')}" for name in other]
        raise ValueError(first_five(differing))
    if bad := sorted(name for name, tensor in weights.items() if not tensor.isfinite().all()):
        raise ValueError(f"NaN or infinite weights in {first_five(bad)}")
    with torch.random.fork_rng(devices=[]):
        head = build()
    head.load_state_dict(weights)
    return head.eval().requires_grad_(False)


def _described(tensors: dict[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items()}
