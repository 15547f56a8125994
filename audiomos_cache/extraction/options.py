"""How to extract, and the fingerprint that follows from it."""

from dataclasses import dataclass
from typing import Literal

from audiomos_cache.audio.resample import resampler_identity
from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.cache.lock import Shard
from audiomos_cache.encoders.base import AudioEncoder, TextEncoder

MAX_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ExtractionOptions:
    """How to extract.

    Attributes:
        pad_to_s: zero-pad every clip to this many seconds before it is encoded; None: encode at its own length.
            Longer clips are cut, at this length or at 30 s.
        dtype: of the stored features.
        batch_size: clips encoded at once.
        on_error: what to do about a bad clip: stop and name it, or leave it out and list it.
        overwrite: start the split anew.
        repair: read what is there first, and encode again what is damaged.
        shard: encode only this share of the clips; other processes, here or on other machines, encode the others.
        straight: fill the split's file while its clips are encoded, where all of them are to be, so that their features
            are written once, not twice; None: where the encoder is on a GPU, which is as quick as a disk.
    Raises:
        ValueError: a shard together with `overwrite` or `repair`, which concern whole splits.
    """

    pad_to_s: float | None = MAX_SECONDS
    dtype: Literal["float16", "float32"] = "float16"
    batch_size: int = 4
    on_error: Literal["stop", "skip"] = "stop"
    overwrite: bool = False
    repair: bool = False
    shard: Shard | None = None
    straight: bool | None = None

    def __post_init__(self) -> None:
        if self.shard and (self.overwrite or self.repair):
            raise ValueError("a shard cannot be overwritten or repaired, only a whole split")

    @property
    def max_seconds(self) -> float:
        """Where longer clips are cut."""
        return MAX_SECONDS if self.pad_to_s is None else self.pad_to_s

    def goes_straight(self, audio: AudioEncoder) -> bool:
        """Say whether to fill the split's file while encoding, where that is possible."""
        return audio.device.type == "cuda" if self.straight is None else self.straight


def fingerprint_of(audio: AudioEncoder, text: TextEncoder, options: ExtractionOptions) -> Fingerprint:
    """Put together all that decides a feature's value.

    The precision that it was computed in is part of it only where it shows beyond the rounding of the stored features.
    float16 arithmetic moves a clip's features by 0.7e-3 of their size, storing them as float16 by 0.3e-3: a cache made
    so on a GPU and a clip scored in float32 on a laptop belong together, as two GPUs do. bfloat16 moves them by ten
    times as much, and features stored as float32 are there for their digits.
    """
    coarse = audio.precision == "bf16" or (audio.precision == "fp16" and options.dtype == "float32")
    return Fingerprint.of(
        {
            "audio_encoder": audio.identity() | ({"precision": audio.precision} if coarse else {}),
            "text_encoder": text.identity(),
            "resampler": resampler_identity(),
            "pad_to_s": options.pad_to_s,
            "max_seconds": options.max_seconds,
            "dtype": options.dtype,
        }
    )
