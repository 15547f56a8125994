"""The folder of a fusion: `fusion.json` (what it is, what it was made of, how well it does), and the predictions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audiomos_cache import registry
from audiomos_cache.artifacts import atomic_write, refuse_occupied, require_format_version
from audiomos_cache.errors import DataError, OutputExistsError, first_five, quoted
from audiomos_cache.evaluation.predictions import ANSWER_NAME, Predictions, write_answer, write_predictions
from audiomos_cache.files import read_json, real_path
from audiomos_cache.folders import atomic_folder, clear_leftovers
from audiomos_cache.fusion.base import Fusion, fusion_class
from audiomos_cache.fusion.recorded_members import RecordedMember
from audiomos_cache.yaml_files import readable

RECORD_NAME = "fusion.json"
FORMAT = "audiomos-cache fusion"
FORMAT_VERSION = 1

_OWN_KEYS = ("format", "format_version", "method", "parts", "members", "fusion", "versions")
_VERSIONED = ("audiomos-cache", "numpy", "scipy", "scikit-learn", "lightgbm")


class _Content(BaseModel):
    """Keys of a record; others may be there too."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


Hash = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)] | None


class _FileContent(_Content):
    path: str
    xxh3_128: Hash


class _MemberContent(_Content):
    name: str
    run_xxh3_128: Hash | None
    best: Literal["loss", "srcc", "combined"] | None
    fit: _FileContent | None
    apply: _FileContent | None


class _AgreementContent(_Content):
    mse: float | None
    lcc: float | None
    srcc: float | None
    ktau: float | None
    mse_ci: Interval = None
    lcc_ci: Interval = None
    srcc_ci: Interval = None
    ktau_ci: Interval = None


class _IntervalsContent(_Content):
    level: float
    method: str
    n_boot: Count
    resampled: str
    notes: list[str]


class _ScoresContent(_Content):
    utt_mi: _AgreementContent
    utt_ta: _AgreementContent
    sys_mi: _AgreementContent
    sys_ta: _AgreementContent
    n_clips: Count
    n_systems: Count
    intervals: _IntervalsContent | None = None


class _OutOfFoldContent(_Content):
    folds: Annotated[int, Field(ge=2, lt=2**63)]
    group: Literal["prompt", "system", "none"]
    seed: Count
    scores: _ScoresContent


class _EarlyStoppingContent(_Content):
    clips: dict[str, Count]


class RecordContent(_Content):
    """The content of `fusion.json`; what its method has for itself, `fusion`, is read by the method."""

    method: str
    members: Annotated[list[_MemberContent], Field(min_length=1)]
    fusion: dict[str, Any]
    fit_split: str | None
    apply_split: str | None
    labels: _FileContent | None
    out_of_fold: _OutOfFoldContent | None
    early_stopping: dict[str, _EarlyStoppingContent]
    dropped: dict[str, Count]
    fit_clips: list[str]


@dataclass(frozen=True)
class FusionRecord:
    """A fusion and its members, as `fusion.json` keeps them.

    Attributes:
        fusion: ready to be applied.
        members: its members, in order.
        fit_clips: ids of the clips it was fitted on; none for a method that is not fitted.
        content: all that the file contains.
    """

    fusion: Fusion
    members: tuple[RecordedMember, ...]
    fit_clips: frozenset[str]
    content: Mapping[str, Any]

    def about(self) -> dict[str, Any]:
        """Return what the file contains besides what `write_record` adds."""
        return {key: value for key, value in self.content.items() if key not in _OWN_KEYS}


def write_record(folder: Path, fusion: Fusion, members: Sequence[RecordedMember], about: Mapping[str, Any]) -> None:
    """Write `fusion.json`; `about` is what else it contains, as `FusionRecord.about` returns it."""
    parts = registry.not_built_in([("fusion", fusion.method)])
    registry.warn_of_scripts(parts)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "method": fusion.method,
        **({"parts": parts} if parts else {}),
        "members": [member.to_json() for member in members],
        "fusion": fusion.to_json(),
        **about,
        "versions": _versions(),
    }
    atomic_write(folder / RECORD_NAME, f"{json.dumps(content, indent=1, allow_nan=False)}\n".encode())


def read_record(folder: Path) -> FusionRecord:
    """Read the fusion that a folder holds.

    Raises:
        DataError: there is none, or it is damaged, or of another version of the format.
        ConfigError: its method is not built in, and not registered, or another class has its name.
    """
    path = folder / RECORD_NAME
    content = _read_content(path)
    registry.require_parts(content.get("parts"), str(path))
    members = tuple(map(RecordedMember.from_json, content["members"]))
    try:
        fusion = fusion_of(content, [member.name for member in members])
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{path}: not the record of a fusion ({quoted(error)}); fuse again") from error
    return FusionRecord(fusion, members, frozenset(content["fit_clips"]), content)


def read_fit_clips(folder: Path) -> frozenset[str]:
    """Read the ids of the clips that a folder's fusion was fitted on; its method need not be known.

    Raises:
        DataError: there is no fusion, or its record is damaged, or of another version of the format.
    """
    return frozenset(_read_content(folder / RECORD_NAME)["fit_clips"])


def _read_content(path: Path) -> dict[str, Any]:
    """Read all of a record and check all of it but what its method has for itself."""
    if not path.exists():
        raise DataError(f"{path.parent}: no {RECORD_NAME} in it, so not a fusion; fuse makes fusions")
    content = read_json(path, "the record of a fusion", advice="fuse again")
    if not isinstance(content, dict):
        raise DataError(f"{path}: {quoted(content)}, expected the record of a fusion; fuse again")
    if content.get("format") != FORMAT:
        raise DataError(f"{path}: format is {quoted(content.get('format'))}, expected {quoted(FORMAT)}; fuse again")
    require_format_version(path, content.get("format_version"), FORMAT_VERSION, again="fuse again", error=DataError)
    try:
        RecordContent.model_validate(content, strict=True)
    except ValidationError as error:
        problems = first_five([readable(each, ()) for each in error.errors()])
        raise DataError(f"{path}: not the record of a fusion: {problems}; fuse again") from error
    return content


def load_fusion(folder: str | PathLike[str]) -> Fusion:
    """Load the fusion that `fuse` wrote to a folder, to apply it to other predictions of its members.

    Args:
        folder: what `fuse` made.
    Returns:
        The fusion; its `names` give the order that its members' predictions must have. It takes arrays;
        `audiomos_cache.fusion.align.fuse_predictions` applies it to predictions that were read from files.
    Raises:
        DataError: there is none, or it is damaged, or of another version of the format.
        ConfigError: its method is not built in, and not registered, or another class has its name.

    >>> import numpy as np
    >>> from audiomos_cache.fusion.base import Members
    >>> fusion = load_fusion("fused")
    >>> fusion
    MeanFusion of 2 members: runs/pooling-dist-seed1, runs/pooling-dist-seed2
    >>> scores, none = np.array([[3.0, 2.0], [4.0, 2.0]]), [None, None]  # 2 members, 2 clips
    >>> members = Members(fusion.names, {"mi": scores, "ta": scores}, {"mi": none, "ta": none})
    >>> fusion.apply(members).scores["mi"].tolist()
    [3.5, 2.0]
    """
    return read_record(Path(folder)).fusion


def fusion_of(content: Mapping[str, Any], names: Sequence[str]) -> Fusion:
    """Make the fusion that a file describes; `registry.require_parts` has checked the parts that the file needs.

    Args:
        content: the name of its method under "method", and what the fusion's `to_json` returned under "fusion".
        names: of its members.
    Raises:
        LookupError, TypeError, ValueError: `content` describes no fusion of these members.
    """
    method = content["method"]
    if method not in registry.known("fusion"):
        raise ValueError(f"method {registry.unknown('fusion', method)}")
    return fusion_class(method).from_json(names, content["fusion"])


def _versions() -> dict[str, str]:
    known = {}
    for package in _VERSIONED:
        try:
            known[package] = version(package)
        except PackageNotFoundError:  # an extra
            continue
    return known


FUSED, OUT_OF_FOLD = "fused", "out-of-fold"

_OWN_FILES = (
    ANSWER_NAME,
    RECORD_NAME,
    *(f"{kind}{split}.jsonl" for kind in (FUSED, OUT_OF_FOLD) for split in ("", ".*")),
)


def predictions_name(kind: str, split: str | None) -> str:
    """Return the name of a file of predictions: `fused.eval.jsonl`, or `fused.jsonl` of a split without a name."""
    return f"{kind}.{split}.jsonl" if split else f"{kind}.jsonl"


def out_of_fold_file(folder: Path) -> Path | None:
    """Return the out-of-fold predictions that a fusion wrote; None where there are none."""
    return next(iter(sorted(folder.glob(f"{OUT_OF_FOLD}*.jsonl"))), None)


def refuse_other_content(out: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Let a fusion replace nothing but a fusion, and that only when asked to; never the one that is applied.

    Args:
        out: the folder to make.
        overwrite: replace the fusion that it holds.
        source: the folder of the fusion that is applied.
    Raises:
        OutputExistsError: `out` is a file, or holds something else, or `overwrite` is False, or is `source`.
    """
    if source and real_path(out) == real_path(source):
        raise OutputExistsError(
            f"{out}: holds the fusion that is applied, whose out-of-fold predictions would be lost; give another --out"
        )
    clear_leftovers(out)
    refuse_occupied(out, what="fusion", own=_OWN_FILES, overwrite=overwrite)


def write_fusion(
    out: Path,
    files: Mapping[str, Predictions],
    answer: Predictions,
    fusion: Fusion,
    members: Sequence[RecordedMember],
    about: Mapping[str, Any],
) -> None:
    """Write predictions by their files' names, the answer and the record; `out` appears complete or not at all."""
    with atomic_folder(out, replace=True) as folder:
        for name, predictions in files.items():
            write_predictions(folder / name, predictions)
        write_answer(folder / ANSWER_NAME, answer)
        write_record(folder, fusion, members, about)
