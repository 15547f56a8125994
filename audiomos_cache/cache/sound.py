"""Whether a file's index columns agree with each other and with its features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audiomos_cache.cache.format import HASH_BYTES, INDEX, STRINGS, frames_arrays
from audiomos_cache.cache.plain import UnsoundError

Shapes = Mapping[str, tuple[int, ...]]


def check_shapes(shapes: Shapes, layers: Sequence[int]) -> None:
    """Check that all arrays have the lengths that they should have in common.

    Raises:
        UnsoundError: naming the first that does not.
    """
    clips, prompts = shapes["clips/mi"][0], shapes["text/feature_hash"][0]
    frames, (tokens, text_dim) = shapes[frames_arrays(layers)[0]], shapes["text/tokens"]
    expected: dict[str, tuple[int, ...]] = {name: (clips,) for name in INDEX if name.startswith("clips/")}
    expected |= dict.fromkeys(frames_arrays(layers), frames)
    expected |= {f"{name}/offsets": (clips + 1,) for name in STRINGS if name.startswith("clips/")}
    expected |= {f"clips/{name}_hash": (clips, len(layers), HASH_BYTES) for name in ("feature", "padding")}
    expected |= {
        "clips/audio_hash": (clips, HASH_BYTES),
        "audio/offsets": (clips + 1,),
        "audio/valid_frames": (clips,),
        "text/feature_hash": (prompts, HASH_BYTES),
        "text/offsets": (prompts + 1,),
        "text/prompt/offsets": (prompts + 1,),
        "text/tokens": (tokens, text_dim),
        "text/pad_vector": (prompts, text_dim),
        "skipped/reason/offsets": shapes["skipped/id/offsets"],
    }
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise UnsoundError(f"/{name} has the shape {shapes[name]}, expected {shape} as the other arrays say")


def check_column(
    name: str, values: NDArray[Any], shapes: Shapes, layers: Sequence[int], column: Callable[[str], NDArray[Any]]
) -> None:
    """Check the values of an index column that others, or the features, depend on.

    Args:
        name, values: the column.
        shapes: of all arrays of the file.
        layers: that the file holds.
        column: gives another column.
    Raises:
        UnsoundError: saying what is wrong with it.
    """
    if name.endswith("/offsets"):
        array = {"audio/offsets": frames_arrays(layers)[0], "text/offsets": "text/tokens"}
        end = shapes[array.get(name, f"{name.removesuffix('offsets')}bytes")][0]
        if not values.size or values[0] != 0 or values[-1] != end or not (values[1:] >= values[:-1]).all():
            raise UnsoundError(f"/{name} does not rise from 0 to {end}, where its array ends")
    elif name == "audio/valid_frames":
        offsets = column("audio/offsets")
        if values.size and not (values.min() >= 1 and (offsets[:-1] + values <= offsets[1:]).all()):
            raise UnsoundError(f"/{name} is not between 1 and the number of frames for every clip")
    elif name == "clips/prompt_row":
        prompts = shapes["text/feature_hash"][0]
        if values.size and not (values.min() >= 0 and values.max() < prompts):
            raise UnsoundError(f"/{name} is not below {prompts}, the number of prompts, for every clip")
    elif name == "clips/position" and values.size and not np.all(values >= 0):
        raise UnsoundError(f"/{name} has a negative place in it")
