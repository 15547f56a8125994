"""Options of an extraction: those that the user chooses, and those that depend on the machine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from audiomos_cache.cache.paths import Shard
from audiomos_cache.devices import Compile, should_compile
from audiomos_cache.encoders.base import AudioEncoder, Precision, TextEncoder
from audiomos_cache.encoders.muq import MuQEncoder
from audiomos_cache.errors import ArgumentError
from audiomos_cache.input_spec import MAX_SECONDS, InputSpec, StoredDtype, longest_s

MAX_PAD_S = 600.0


@dataclass(frozen=True, slots=True)
class ExtractionOptions:
    """How to extract.

    Attributes:
        pad_to_s: zero-pad every clip to this many seconds before it is encoded; None: encode at its own length.
            Longer clips are cut, at this length or at 30 s.
        dtype: of the stored features.
        batch_size: clips encoded at once.
        on_error: what to do about a bad clip: stop and name it, or leave it out and list it.
        overwrite: extract the split from scratch.
        repair: read what is there first, and encode again what is damaged.
        shard: encode only this share of the clips; other processes, here or on other machines, encode the others.
        in_place: fill the split's file while its clips are encoded, where all of them are to be, so that their features
            are written once, not twice; None: where the encoder is on a GPU, which is as quick as a disk.
    Raises:
        ValueError: a shard together with `overwrite` or `repair`, which concern whole splits.
    """

    pad_to_s: float | None = MAX_SECONDS
    dtype: StoredDtype = "float16"
    batch_size: int = 4
    on_error: Literal["stop", "skip"] = "stop"
    overwrite: bool = False
    repair: bool = False
    shard: Shard | None = None
    in_place: bool | None = None

    def __post_init__(self) -> None:
        if self.shard and (self.overwrite or self.repair):
            raise ValueError("a shard cannot be overwritten or repaired, only a whole split")

    @property
    def max_seconds(self) -> float:
        """The length in seconds at which longer clips are cut."""
        return longest_s(self.pad_to_s)

    def input_spec(self, audio: AudioEncoder, text: TextEncoder) -> InputSpec:
        """Return the record of what these encoders are given with these options; the features have its fingerprint."""
        return InputSpec.of(audio, text, self.pad_to_s, self.dtype)

    def writes_in_place(self, audio: AudioEncoder) -> bool:
        """Return whether to fill the split's file while encoding, if that is possible."""
        return audio.device.type == "cuda" if self.in_place is None else self.in_place


def parse_shard(shard: str | tuple[int, int] | None) -> Shard | None:
    """Return the share that `1/4` or (1, 4) means.

    Raises:
        ArgumentError: not I of N with I from 1 to N.
    """
    if shard is None:
        return None
    given = shard if isinstance(shard, str) else "/".join(map(str, shard))
    pair = given.split("/")
    if (
        len(pair) != 2
        or not all(each.isascii() and each.isdecimal() and len(each) < 10 for each in pair)
        or not 1 <= int(pair[0]) <= int(pair[1])
    ):
        raise ArgumentError(f"--shard {given or repr(given)}: expected I/N with I from 1 to N, such as 1/4")
    return Shard(int(pair[0]), int(pair[1]))


CPU_BATCH = 4
GPU_BATCH_SECONDS = 32 * MAX_SECONDS  # of audio at once: with more, an H100 is hardly quicker
SHARE_OF_MEMORY = 0.8  # of what is free
# Measured on an H100: what compiling takes from a cold start, and what it saves of each second of audio.
COMPILE_S = 12.0
SAVED_PER_AUDIO_S = 13e-6


def not_finite(name: str, dtype: StoredDtype) -> str:
    """Say that an encoder's features cannot be stored, and what could hold those that are only too large."""
    larger = " (--dtype float32 holds larger values)" if dtype == "float16" else ""
    return f"{name} gives NaN or Inf as {dtype}{larger}"


def precision_for(device: str, dtype: str, requested: Precision | None) -> Precision:
    """Return the precision to compute in: the requested one, or float16 on a GPU for features stored in it."""
    return requested or ("fp16" if device == "cuda" and dtype == "float16" else "fp32")


def batch_size_for(audio: AudioEncoder, options_pad_to_s: float | None, free_bytes: Callable[[], int]) -> int:
    """Return how many clips to encode at once: what the free memory of a GPU holds, as far as it helps.

    Args:
        audio: the encoder, on its device.
        options_pad_to_s: the length that clips are padded to; None: up to 30 s.
        free_bytes: returns the free memory of the GPU, as `free_gpu_bytes` does.
    """
    if audio.device.type != "cuda":
        return CPU_BATCH
    seconds = longest_s(options_pad_to_s)
    fit = int(SHARE_OF_MEMORY * free_bytes() / audio.working_bytes(round(seconds * audio.sample_rate_hz)))
    return max(1, min(fit, int(GPU_BATCH_SECONDS / seconds)))


def free_gpu_bytes(device: torch.device | None = None) -> int:
    """Return how many bytes of a GPU's memory are free, what PyTorch holds for later among them.

    Args:
        device: the GPU; None: this thread's current one.
    """
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def saved_seconds(clips: int, options: ExtractionOptions) -> float:
    """Estimate how many seconds compiled code saves on a GPU, for so many clips.

    Clips at their own lengths come in batches of many shapes, each compiled again: nothing is saved.
    """
    return 0.0 if options.pad_to_s is None else clips * options.max_seconds * SAVED_PER_AUDIO_S


def compile_for(clips: int, audio: AudioEncoder, options: ExtractionOptions, compiling: Compile) -> float | None:
    """Compile the encoder for so many clips, if that was requested, or with "auto" saves time.

    Returns:
        The seconds it took; None: it was not compiled.
    """
    if not clips or not isinstance(audio, MuQEncoder):
        return None
    if not should_compile(compiling, audio.device.type, saved_seconds(clips, options), COMPILE_S):
        return None
    return audio.compile(options.batch_size, max(round(options.max_seconds * audio.sample_rate_hz), audio.min_samples))
