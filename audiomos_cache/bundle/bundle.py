"""A bundle in memory: all that turns features of frozen encoders into one MI and TA, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

from audiomos_cache.bundle.calibration import Calibration
from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.errors import BundleError
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.fusion.rank import RankFusion
from audiomos_cache.heads.model import Head


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """Where an encoder's weights are to be had.

    Attributes:
        name: by which it was loaded: a registered one, a folder or a hub repository id.
        source: the folder or hub repository; a text for people where the weights are made by code.
        revision: the resolved commit of a hub repository; `local` of a folder, `none` where there is nothing to load.
        weights_hash: xxh3_128 of the weights, 32 hex digits.
    """

    name: str
    source: str
    revision: str
    weights_hash: str


@dataclass(frozen=True, slots=True)
class BundledHead:
    """One member.

    Attributes:
        name: of its run.
        head: in evaluation mode, on the CPU.
        layers: which of the encoder's hidden states it reads, by their numbers.
    """

    name: str
    head: Head
    layers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Heads, their fusion, and what features they take.

    Attributes:
        name: the folder or hub repository that it was loaded from.
        digest: tells it from all others, 32 hex digits of xxh3_128.
        fingerprint: of the features that its heads were trained on.
        audio_encoder, text_encoder: which make these features.
        members: in the order that the fusion expects.
        fusion: of their predictions.
        calibrations: by target (`mi`, `ta`), how wide an interval is; none of a bundle that was not calibrated.
    """

    name: str
    digest: str
    fingerprint: Fingerprint
    audio_encoder: EncoderSource
    text_encoder: EncoderSource
    members: tuple[BundledHead, ...]
    fusion: Fusion
    calibrations: Mapping[str, Calibration]


def refuse_ranks(fusion: Fusion, where: str) -> None:
    """Refuse a fusion that does not score each clip by itself.

    Raises:
        BundleError: names `where` it comes from.
    """
    if isinstance(fusion, RankFusion):
        raise BundleError(
            f"{where}: blends by rank, where a clip's score depends on the other clips, expected a fusion that scores "
            "each clip by itself; fuse with another --method"
        )
