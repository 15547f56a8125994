"""Which of its hidden states an encoder gives: 0 is what enters its first layer, i is the output of layer i."""

from collections.abc import Sequence

from audiomos_cache.errors import ConfigError


def resolve_layers(layers: Sequence[int], depth: int, name: str) -> tuple[int, ...]:
    """Turn the layers a user asked for into indices in ascending order, each of them once.

    Args:
        layers: from 0 to depth, or from -1 (the last) to -(depth + 1); at least one.
        depth: number of the encoder's layers, and the index of its last hidden state.
        name: the encoder's, for messages.
    Raises:
        ConfigError: no layer, or one that the encoder does not have.
    """
    known = f"{name} has layers 0 to {depth} (or -{depth + 1} to -1)"
    if not layers:
        raise ConfigError(f"--layers: none given; {known}")
    unknown = [str(layer) for layer in layers if not -(depth + 1) <= layer <= depth]
    if unknown:
        raise ConfigError(f"--layers {','.join(unknown)}: {known}")
    return tuple(sorted({layer % (depth + 1) for layer in layers}))
