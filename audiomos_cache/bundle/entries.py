"""The entries of `bundle.yaml`: what each part of a bundle is, and the values that it may have."""

import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from audiomos_cache.bundle.calibration import LEVEL, Calibration
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.input_spec import InputSpec, TextIdentity, Width
from audiomos_cache.targets import Target
from audiomos_cache.yaml_files import Group

HEADS = "heads"
_HEAD_FILE = re.compile(rf"{HEADS}/[\w+-][\w.+-]*\.safetensors")


def is_head_file(name: str) -> bool:
    """Return whether a file's name inside a bundle is that of a head."""
    return _HEAD_FILE.fullmatch(name) is not None


def _refuse_other_name(name: str) -> str:
    """Refuse a name that could lead out of the bundle."""
    if not is_head_file(name):
        raise PydanticCustomError("file_name", "expected a name of the form heads/NAME.safetensors")
    return name


Hash = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, Field(pattern=r"^[\w+-][\w.+-]*$")]  # as `sources` makes them of runs' folders
HeadFile = Annotated[str, AfterValidator(_refuse_other_name)]
Layers = Annotated[list[int], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Licence(Group):
    """What may be done with a bundle; `id` is as the Hugging Face hub has it."""

    id: str
    notice: str


class FeaturesEntry(Group):
    """The fingerprint of the features that the heads take, and its readable form."""

    xxh3_128: Hash
    fields: InputSpec


class HeadInput(InputSpec):
    """What heads that are trained here take: frames and the tokens of a prompt."""

    text_encoder: TextIdentity


class TrainedFeaturesEntry(FeaturesEntry):
    """The same, of frames and tokens."""

    fields: HeadInput


class EncoderEntry(Group):
    """Where an encoder's weights are to be had, and what they hash to. `precision` is that of the training features."""

    name: str
    source: str
    revision: str
    weights_xxh3_128: Hash | Literal["none"]
    precision: str
    notice: str | None


class EncodersEntry(Group):
    """Both encoders."""

    audio: EncoderEntry
    text: EncoderEntry


class AudioEncoderEntry(Group):
    """The encoder of heads that hear no prompt."""

    audio: EncoderEntry


class TargetEntry(Group):
    """A score that the bundle predicts; see `targets.Target`."""

    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$", max_length=64)]
    lowest: float
    highest: float
    clipped: bool
    hears_prompt: bool

    def target(self) -> Target:
        """Return it."""
        return Target(**self.model_dump())


class PublishedEntry(Group):
    """A head that others published: which one, and where its tensors are."""

    name: Name
    file: HeadFile
    xxh3_128: Hash


class ClipsEntry(Group):
    """Which labels a head was trained on, or its checkpoint was chosen by."""

    clips: Count
    labels_xxh3_128: Hash
    ratings_xxh3_128: Hash | None


class MemberEntry(Group):
    """A head: which run it is of, what it was made for, trained on and with."""

    name: Name
    run_xxh3_128: Hash
    best: Literal["loss", "srcc", "combined"]
    seed: int
    fingerprint: Hash
    head: HeadConfig
    audio_dim: Width
    text_dim: Width
    audio_layers: Layers
    layers_read: Layers
    bins: int | None
    train: ClipsEntry
    dev: ClipsEntry
    versions: dict[str, str]
    file: HeadFile
    xxh3_128: Hash


class FusionEntry(Group):
    """How the heads' predictions are blended."""

    method: str
    file: Literal["fusion.json"]
    xxh3_128: Hash


class PartEntry(Group):
    """A part that is not built in: what must be imported before the bundle can be used; see `registry.not_built_in`."""

    kind: str
    name: str
    import_: str = Field(alias="import")
    module: str
    class_: str = Field(alias="class")
    version: str | None


class IntervalEntry(Group):
    """A target's `Calibration`."""

    factor: Annotated[float, Field(ge=0)]
    clips: Count
    coverage: Share
    mean_width: Annotated[float, Field(ge=0)]
    coverage_ci: Annotated[list[Share], Field(min_length=2, max_length=2)] | None

    def calibration(self) -> Calibration:
        """Return what makes intervals."""
        bounds = self.coverage_ci
        numbers = self.model_dump(exclude={"coverage_ci"})
        return Calibration(**numbers, coverage_ci=(bounds[0], bounds[1]) if bounds else None)


class LabelsFile(Group):
    """A list of labels: its name, without the folder, and its hash."""

    name: str
    xxh3_128: Hash


class IntervalsEntry(Group):
    """What the intervals were calibrated on, and the result."""

    level: Annotated[float, Field(ge=LEVEL, le=LEVEL)]  # the only one there is
    labels: LabelsFile
    split: str | None
    folds: Count
    group: Literal["prompt", "system", "none"]
    seed: int
    mi: IntervalEntry
    ta: IntervalEntry

    def lines(self) -> list[str]:
        """Return a line for each target: the coverage of its intervals, and their mean width."""
        lines = []
        for target, each in (("MI", self.mi), ("TA", self.ta)):
            bounds = each.coverage_ci
            known = f" (95 % interval {bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
            lines.append(
                f"{100 * self.level:.0f} % intervals of {target}: coverage {each.coverage:.3f}{known} on {each.clips} "
                f"clips that they were calibrated without, mean width {each.mean_width:.3f}"
            )
        return lines


Targets = Annotated[list[TargetEntry], Field(min_length=1)]


def target_entries(targets: Iterable[Target]) -> list[dict[str, Any]]:
    """Return what `targets` contains in a manifest."""
    return [asdict(target) for target in targets]
