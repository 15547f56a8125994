"""Blend the predictions of several runs into one: fit on a split with labels, apply to another."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import xxhash
import yaml
from numpy.typing import NDArray

from audiomos_cache.dataset import Labels, read_labels
from audiomos_cache.errors import ConfigError, DataError, OutputExistsError, first_five
from audiomos_cache.predictions import (
    ANSWER_NAME,
    Predictions,
    join_ids,
    read_predictions,
    write_answer,
    write_predictions,
    write_whole,
)
from audiomos_cache.targets import HIGHEST, LOWEST, gaussian_distribution

Floats = NDArray[np.float64]

SCORE_SIGMA = 0.35  # of the gaussian that stands for a member without distributions
DEFAULT_BINS = 20
TARGETS = ("mi", "ta")
RECORD_NAME = "fusion.json"


class Fusion(Protocol):
    """A way to blend members. `names` are the members' names, for messages and for the record."""

    learns: ClassVar[bool]

    def __init__(self, names: Sequence[str]) -> None: ...

    def fit(self, members: Sequence[Predictions], labels: Labels | None) -> Self:
        """Learn from the members' predictions of the clips that `labels` holds."""

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Blend the members' predictions, given in the order they were fitted in."""

    def to_json(self) -> dict[str, Any]:
        """Describe the fitted method completely, in plain values."""


def align(members: Sequence[Predictions], names: Sequence[str]) -> tuple[str, ...]:
    """Give the ids that all members hold, in the order of their rows.

    Raises:
        DataError: no member, not one name for each, or members that do not hold the same clips.
    """
    if not members or len(members) != len(names):
        raise DataError(f"{len(members)} predictions to fuse, expected {len(names) or 'at least 1'}")
    for member, name in zip(members[1:], names[1:], strict=True):
        join_ids(member.ids, members[0].ids, name, names[0])
    return members[0].ids


class MeanFusion:
    """The mean of the members' scores, and of their distributions where all have one on the same bins."""

    learns: ClassVar[bool] = False

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def fit(self, members: Sequence[Predictions], labels: Labels | None) -> Self:
        """Learn nothing: a mean has no weights."""
        del members, labels
        return self

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Average N clips' predictions over the members."""
        ids = align(members, self.names)
        return Predictions.build(
            ids,
            np.mean([member.mi for member in members], axis=0),
            np.mean([member.ta for member in members], axis=0),
            _mean_dist([member.mi_dist for member in members]),
            _mean_dist([member.ta_dist for member in members]),
        )

    def to_json(self) -> dict[str, Any]:
        """Describe the mean: equal weights."""
        return {"method": "mean", "members": self.names, "weights": [1 / len(self.names)] * len(self.names)}


def _mean_dist(dists: Sequence[Floats | None]) -> Floats | None:
    known = [dist for dist in dists if dist is not None]
    alike = len(known) == len(dists) and len({dist.shape for dist in known}) == 1
    return np.asarray(np.mean(known, axis=0)) if alike else None


@dataclass(frozen=True)
class RidgeWeights:
    """One target's fitted ridge over M members.

    features: (M,) what each member contributes: its `distribution`, or a gaussian at its `score`.
    coefficients: M arrays (bins of the member,).
    """

    features: tuple[str, ...]
    coefficients: tuple[Floats, ...]
    intercept: float

    def to_json(self) -> dict[str, Any]:
        """Give plain values, coefficients member by member."""
        return {
            "features": list(self.features),
            "bins": [len(block) for block in self.coefficients],
            "coefficients": [block.tolist() for block in self.coefficients],
            "intercept": self.intercept,
        }


class RidgeFusion:
    """Ridge regression from the members' distributions to the listeners' scores, a target at a time.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code.
    """

    learns: ClassVar[bool] = True
    alpha = 1.0

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.weights: dict[str, RidgeWeights] = {}

    def fit(self, members: Sequence[Predictions], labels: Labels | None) -> Self:
        """Fit both targets on all clips of `labels`.

        Raises:
            DataError: no labels, or labels and members do not hold the same clips.
        """
        from sklearn.linear_model import Ridge

        if labels is None:
            raise DataError("ridge: no labels to fit on; give the fit split's list with --labels")
        rows = join_ids(align(members, self.names), labels.ids, self.names[0], "the labels")
        for target in TARGETS:
            features, blocks = _features(members, target)
            model = Ridge(alpha=self.alpha).fit(np.concatenate(blocks, axis=1), getattr(labels, target)[rows])
            ends = np.cumsum([block.shape[1] for block in blocks])
            self.weights[target] = RidgeWeights(
                features, tuple(np.split(model.coef_, ends[:-1])), float(model.intercept_)
            )
        return self

    def apply(self, members: Sequence[Predictions]) -> Predictions:
        """Predict N clips' scores, clipped to 1..5; a ridge gives no distributions.

        Raises:
            DataError: a member has other bins than it was fitted with.
        """
        ids = align(members, self.names)
        return Predictions.build(ids, self._scores(members, "mi"), self._scores(members, "ta"))

    def _scores(self, members: Sequence[Predictions], target: str) -> Floats:
        weights = self.weights[target]
        features, blocks = _features(members, target)
        scores = np.full(len(members[0].ids), weights.intercept)
        for name, feature, block, fitted_feature, coefficients in zip(
            self.names, features, blocks, weights.features, weights.coefficients, strict=True
        ):
            if (feature, block.shape[1]) != (fitted_feature, len(coefficients)):
                raise DataError(
                    f"{name}: {target} is a {feature} on {block.shape[1]} bins, expected a {fitted_feature} "
                    f"on {len(coefficients)} as in the fit split; give both splits' files in the same order"
                )
            scores += block @ coefficients
        return scores.clip(LOWEST, HIGHEST)

    def to_json(self) -> dict[str, Any]:
        """Describe the fit: intercept + the sum of features @ coefficients, clipped to 1..5, is the score."""
        return {
            "method": "ridge",
            "members": self.names,
            "alpha": self.alpha,
            "score_sigma": SCORE_SIGMA,
            **{target: weights.to_json() for target, weights in self.weights.items()},
        }


def _features(members: Sequence[Predictions], target: str) -> tuple[tuple[str, ...], list[Floats]]:
    """Give each member's kind of features, and the features: (N, bins)."""
    dists: list[Floats | None] = [getattr(member, f"{target}_dist") for member in members]
    known = {dist.shape[1] for dist in dists if dist is not None}
    bins = known.pop() if len(known) == 1 else DEFAULT_BINS
    return tuple("score" if dist is None else "distribution" for dist in dists), [
        gaussian_distribution(getattr(member, target), bins, SCORE_SIGMA) if dist is None else dist
        for member, dist in zip(members, dists, strict=True)
    ]


METHODS: dict[str, type[Fusion]] = {"mean": MeanFusion, "ridge": RidgeFusion}


@dataclass(frozen=True)
class Inputs:
    """The files to fuse, one of each split for every name; `fit` is empty where nothing is fitted."""

    names: tuple[str, ...]
    fit: tuple[Path, ...]
    apply: tuple[Path, ...]
    fingerprint: str | None = None


def inputs_of_runs(runs: Sequence[Path], fit_split: str | None, apply_split: str, best: str) -> Inputs:
    """Find the predictions in run folders.

    Raises:
        DataError: not a run, runs on features of different fingerprints, a run without these predictions.
    """
    fingerprints = [_fingerprint(run) for run in runs]
    for run, fingerprint in zip(runs, fingerprints, strict=True):
        if fingerprint != fingerprints[0]:
            raise DataError(
                f"{run}: trained on features with fingerprint {fingerprint}, but {runs[0]} on "
                f"{fingerprints[0]}; fuse runs of one cache only"
            )
    return Inputs(
        names=tuple(map(str, runs)),
        fit=tuple(_predictions_of(run, fit_split, best) for run in runs if fit_split is not None),
        apply=tuple(_predictions_of(run, apply_split, best) for run in runs),
        fingerprint=fingerprints[0],
    )


def inputs_of_files(files: Sequence[Path], apply: Sequence[Path], learns: bool) -> Inputs:
    """Pair the fit split's files with the apply split's. Where nothing is fitted, `files` alone will do.

    Raises:
        DataError: not as many of the one as of the other.
    """
    if not learns:
        return Inputs(tuple(map(str, files)), fit=(), apply=tuple(apply or files))
    if len(apply) != len(files):
        raise DataError(
            f"{len(apply)} files of the apply split, expected {len(files)}: give --apply FILE once for each "
            "file of the fit split, in the same order"
        )
    return Inputs(tuple(map(str, files)), fit=tuple(files), apply=tuple(apply))


def fuse(
    sources: Sequence[Path],
    out: Path,
    *,
    method: str = "ridge",
    labels: Path | None = None,
    fit_split: str = "dev",
    apply_split: str = "eval",
    apply: Sequence[Path] = (),
    best: str = "combined",
    overwrite: bool = False,
) -> Predictions:
    """Fit a fusion on one split, apply it to another, and write the result, the answer and a record to `out`.

    Args:
        sources: run folders, or the fit split's predictions files.
        out: a folder to make; it appears complete or not at all.
        method: a key of `METHODS`.
        labels: the fit split's list, for a method that learns; the others do not read it.
        apply: with files, the apply split's, in the order of `sources`.
        best: with runs, which of their best checkpoints: loss, srcc or combined.
    Returns:
        The fused predictions of the apply split.
    Raises:
        ConfigError: unknown method.
        DataError: inputs that do not belong together, or are not predictions of the same clips.
        OutputExistsError: `out` holds something, and `overwrite` is False or it is not a fusion's.
    """
    if method not in METHODS:
        raise ConfigError(f"fusion method {method!r} is not one of {', '.join(sorted(METHODS))}")
    _refuse_occupied(out, overwrite)
    learns = METHODS[method].learns
    folders = [source for source in sources if source.is_dir()]
    if folders and (apply or len(folders) < len(sources)):
        raise DataError(f"{folders[0]}: run folders and predictions files do not mix; give only the one kind")
    if folders:
        inputs = inputs_of_runs(sources, fit_split if learns else None, apply_split, best)
    else:
        inputs = inputs_of_files(sources, apply, learns)

    fusion = METHODS[method](inputs.names)
    if learns:
        fusion.fit(_read_all(inputs.fit), read_labels(labels) if labels else None)
    fused = fusion.apply(_read_all(inputs.apply))

    record = {
        **fusion.to_json(),
        "fit_split": fit_split if learns else None,
        "apply_split": apply_split,
        "fingerprint": inputs.fingerprint,
        "fit": [_identity(path) for path in inputs.fit],
        "apply": [_identity(path) for path in inputs.apply],
        "labels": _identity(labels) if learns and labels else None,
        "versions": {name: version(name) for name in ("audiomos-cache", "numpy", "scikit-learn")},
    }
    with _replacing(out) as folder:
        write_predictions(folder / f"fused.{apply_split}.jsonl", fused)
        write_answer(folder / ANSWER_NAME, fused)
        write_whole(folder / RECORD_NAME, f"{json.dumps(record, indent=1)}\n".encode())
    return fused


def _fingerprint(run: Path) -> str:
    config = run / "config.yaml"
    if not config.is_file():
        raise DataError(f"{run}: no config.yaml, expected the folder of a run that train-head made")
    try:
        content = yaml.safe_load(config.read_bytes())
    except yaml.YAMLError as error:
        raise DataError(f"{config}: not YAML; train the run again") from error
    fingerprint = content.get("fingerprint") if isinstance(content, dict) else None
    if not isinstance(fingerprint, str):
        raise DataError(f"{config}: fingerprint is {fingerprint!r}, expected a text; train the run again")
    return fingerprint


def _predictions_of(run: Path, split: str, best: str) -> Path:
    path = run / "predictions" / f"{split}.{best}.jsonl"
    if not path.is_file():
        raise DataError(f"{path}: does not exist; make it with audiomos-cache predict --run {run} --split {split}")
    return path


def _read_all(paths: Sequence[Path]) -> list[Predictions]:
    members = [read_predictions(path) for path in paths]
    align(members, list(map(str, paths)))  # here, where the names are those of the files
    return members


def _identity(path: Path) -> dict[str, str]:
    return {"path": str(path), "xxh3_128": xxhash.xxh3_128_hexdigest(path.read_bytes())}


def _refuse_occupied(out: Path, overwrite: bool) -> None:
    """Let a fusion replace nothing but a fusion, and that only when asked to."""
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out}: is a file, expected a folder to make; give another --out")
    names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if names and not overwrite:
        raise OutputExistsError(f"{out}: holds {first_five(names)}; give another --out, or --overwrite")
    own = (ANSWER_NAME, RECORD_NAME, "fused.*.jsonl")
    if foreign := [name for name in names if not any(fnmatch(name, pattern) for pattern in own)]:
        raise OutputExistsError(
            f"{out}: holds {first_five(foreign)}, which no fusion wrote and --overwrite would lose; give another --out"
        )


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` to write in, which takes the place of `out` when the block is done."""
    out = out.resolve()
    new, old = (out.with_name(f".{out.name}.{os.getpid()}.{age}") for age in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        if old.exists() and not out.exists():
            old.rename(out)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
