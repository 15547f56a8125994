"""A bundle in memory: heads, their fusion, what features they take and what they predict."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.bundle.calibration import Calibration
from audiomos_cache.errors import first_five, shown
from audiomos_cache.files import is_folder
from audiomos_cache.fusion.base import Fusion
from audiomos_cache.input_spec import InputSpec
from audiomos_cache.progress import counted
from audiomos_cache.published.catalogue import PUBLISHED, find_revision
from audiomos_cache.targets import HIGHEST, LOWEST, TRAINED_TARGETS, Target

if TYPE_CHECKING:
    from torch import nn

    from audiomos_cache.encoders.base import AudioEncoder


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """Where an encoder's weights are to be had.

    Attributes:
        name: by which it was loaded: a registered one, a folder or a hub repository id.
        source: the folder or hub repository; a sentence where the weights are made by code.
        revision: the resolved commit of a hub repository; `local` of a folder, `none` where there is nothing to load,
            `bundle` where the weights are the bundle's own.
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
        name: of its run; of a published head, its own.
        head: in evaluation mode, on the CPU; what it returns has `columns()`.
        layers: which of the encoder's hidden states it reads, by their numbers.
    """

    name: str
    head: "nn.Module"
    layers: tuple[int, ...]


LoadOwnEncoder = Callable[..., "AudioEncoder"]
"""Loads the encoder that came with a published head: (device=, layers=, precision=) -> AudioEncoder."""


@dataclass(frozen=True, slots=True, repr=False)
class Bundle:
    """Heads, their fusion, and what features they take. `load_bundle` makes it.

    Attributes:
        name: the folder or hub repository that it was loaded from, or the name of a published one.
        digest: 32 hex digits of xxh3_128 of all that `bundle.yaml` contains, which identifies it.
        fingerprint: of the features that its heads take.
        audio_encoder, text_encoder: which make these features; no text encoder where no head hears a prompt.
        members: in the order that the fusion expects.
        fusion: of their predictions; None of a published head, which is taken as it is.
        calibrations: by target (`mi`, `ta`), how wide an interval is; none of a bundle that was not calibrated.
        targets: what it predicts.
        licence: of heads and encoders, short.
        own_encoder: loads the encoder that came with a published head; None: `audio_encoder` says where it is.
        published: the name of a published head; None of heads that were trained here.

    >>> from audiomos_cache import load_bundle
    >>> load_bundle("model").to_dict()["method"]
    'mean'
    """

    name: str
    digest: str
    fingerprint: Fingerprint
    audio_encoder: EncoderSource
    text_encoder: EncoderSource | None
    members: tuple[BundledHead, ...]
    fusion: Fusion | None
    calibrations: Mapping[str, Calibration]
    targets: tuple[Target, ...] = TRAINED_TARGETS
    licence: str = ""
    own_encoder: LoadOwnEncoder | None = None
    published: str | None = None

    @property
    def input(self) -> InputSpec:
        """What the encoders are given and give."""
        return InputSpec.of_fingerprint(self.fingerprint)

    @property
    def label(self) -> str:
        """What it is called among several: the name of its folder or of a published one, the id of a repository."""
        is_name = find_revision(self.name)[0] is not None
        return Path(self.name).absolute().name if is_folder(self.name) and not is_name else self.name

    @property
    def made_of(self) -> str:
        """Say what makes the scores: `ridge of 8 heads`, `MuQ-Eval-A1's head`."""
        if self.fusion is None:
            return f"the published head {self.published}"
        return f"{self.fusion.method} of {counted(len(self.members), 'head')}"

    def _encoders(self) -> list[EncoderSource]:
        return [each for each in (self.audio_encoder, self.text_encoder) if each]

    def __repr__(self) -> str:
        encoders = ", ".join(f"{each.name} ({each.source}, {each.revision})" for each in self._encoders())
        lines = [f"Bundle {self.name!r}"]
        if self.published:
            lines += [f"{self.made_of}: {', '.join(target.name for target in self.targets)}", f"encoder: {encoders}"]
        else:
            names = [member.name for member in self.members]
            lines += [
                f"{self.made_of}: {first_five(names)}",
                f"encoders: {encoders}",
                f"intervals: {'80 % of MI and TA' if self.calibrations else 'none, it was not calibrated'}",
            ]
        return "\n  ".join([*lines, f"digest: {self.digest}"])

    def about(self) -> list[str]:
        """Return what its scores mean, and what makes them, a sentence each."""
        if self.published:
            return list(PUBLISHED[self.published].meaning)
        known = ", ".join(
            f"{100 * each.coverage:.0f} % of {each.clips} clips for {target.upper()}"
            for target, each in self.calibrations.items()
        )
        brackets = f"In brackets: where that is for 80 % of clips like those of the calibration (measured: {known})."
        encoders = " and ".join(each.name for each in self._encoders())
        windows = f"in windows of {self.input.max_seconds:g} s, whose mean by length is the score"
        return [
            f"MI: music impression, TA: text alignment, {LOWEST:g} to {HIGHEST:g}: the mean opinion of listeners.",
            brackets if known else "There are no intervals, as the bundle was not calibrated.",
            f"Scored by {shown(self.name)}: {self.made_of} on features of {shown(encoders)}; heard {windows}.",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the weights."""
        calibrations = {target: asdict(each) for target, each in self.calibrations.items()}
        for each in calibrations.values():
            each["coverage_ci"] = each["coverage_ci"] and list(each["coverage_ci"])
        return {
            "name": self.name,
            "digest": self.digest,
            "fingerprint": self.fingerprint.digest,
            "published": self.published,
            "targets": [asdict(target) for target in self.targets],
            "licence": self.licence,
            "encoders": {
                "audio": asdict(self.audio_encoder),
                "text": asdict(self.text_encoder) if self.text_encoder else None,
            },
            "members": [{"name": member.name, "layers": list(member.layers)} for member in self.members],
            "method": self.fusion.method if self.fusion else None,
            "calibrations": calibrations,
        }
