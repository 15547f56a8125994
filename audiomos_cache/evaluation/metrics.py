"""How well predictions agree with listeners: MSE, LCC, SRCC and KTAU, per clip and per system."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, rankdata

from audiomos_cache.dataset.labels import Labels
from audiomos_cache.errors import DataError, first_five, quoted
from audiomos_cache.evaluation.predictions import Predictions, join_ids
from audiomos_cache.targets import MEASURES, TARGETS, VIEWS, Floats

_MEAN_DECIMALS = 12  # far more than scores have, far less than rounding reaches
_ROUNDING = 1e-6  # relative: predictions are made in float32, which has seven digits


def mse(predicted: Floats, truth: Floats) -> float:
    """Return the mean squared error of two (N,) arrays."""
    return float(np.mean((predicted - truth) ** 2))


def lcc(predicted: Floats, truth: Floats) -> float:
    """Return the linear (Pearson) correlation of two (N,) arrays; nan where one of them is constant up to rounding."""
    if is_constant(predicted) or is_constant(truth):
        return math.nan
    x, y = predicted - predicted.mean(), truth - truth.mean()
    return float(np.clip(x / np.linalg.norm(x) @ (y / np.linalg.norm(y)), -1.0, 1.0))


def srcc(predicted: Floats, truth: Floats) -> float:
    """Return the rank (Spearman) correlation of two (N,) arrays, ties at their mean rank; nan as of `lcc`."""
    if is_constant(predicted) or is_constant(truth):
        return math.nan
    return lcc(rankdata(predicted), rankdata(truth))


def ktau(predicted: Floats, truth: Floats) -> float:
    """Return Kendall's tau-b of two (N,) arrays; nan as of `lcc`."""
    if is_constant(predicted) or is_constant(truth):
        return math.nan
    return float(kendalltau(predicted, truth, variant="b").statistic)


def is_constant(values: Floats) -> bool:
    """Return whether (N,) values are equal up to rounding: what correlates with them is chance."""
    return bool(same(values.min(), values.max()))


def same(low: ArrayLike, high: ArrayLike) -> NDArray[np.bool_]:
    """Return, element by element, whether the lowest and the highest of some values are equal up to rounding."""
    return np.asarray(np.subtract(high, low) <= _ROUNDING * np.maximum(np.abs(low), np.abs(high)))


@dataclass(frozen=True)
class Agreement:
    """The four numbers of one score (MI or TA) at one level."""

    mse: float
    lcc: float
    srcc: float
    ktau: float

    @classmethod
    def of(cls, predicted: Floats, truth: Floats) -> "Agreement":
        """Compare two (N,) arrays, N >= 1."""
        return cls(*(measure(predicted, truth) for measure in (mse, lcc, srcc, ktau)))


@dataclass(frozen=True)
class Scores:
    """The sixteen numbers: MI and TA at utterance level (per clip) and at system level (per-system means)."""

    utt_mi: Agreement
    utt_ta: Agreement
    sys_mi: Agreement
    sys_ta: Agreement
    n_clips: int
    n_systems: int

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Scores":
        """Read what `to_json` returns.

        Raises:
            LookupError, TypeError: `content` is something else.
        """

        def number(found: object, *kinds: type) -> Any:
            if not isinstance(found, kinds) or isinstance(found, bool):
                raise TypeError(f"{quoted(found)} is no number")
            return math.nan if found is None else found

        utt_mi, utt_ta, sys_mi, sys_ta = (
            Agreement(*(number(content[view][measure], int, float, type(None)) for measure in MEASURES))
            for view in VIEWS
        )
        counts = (number(content[name], int) for name in ("n_clips", "n_systems"))
        return cls(utt_mi, utt_ta, sys_mi, sys_ta, *counts)

    def to_json(self) -> dict[str, dict[str, float | None] | int]:
        """Return nested plain values for `json.dumps`; a number that is not defined is None."""
        return {
            name: value
            if isinstance(value, int)
            else {measure: None if math.isnan(number) else number for measure, number in value.items()}
            for name, value in asdict(self).items()
        }


def system_means(systems: Sequence[str], values: Floats) -> dict[str, float]:
    """Average the (N,) `values` of each system; `systems` names the system of each clip. Sorted by system.

    The means are rounded to 12 decimals, so that those which are equal tie, whatever float sums make of them, and the
    order of the clips decides nothing.
    """
    clips = _clips_of(systems, values)
    return {system: round(math.fsum(clips[system]) / len(clips[system]), _MEAN_DECIMALS) for system in sorted(clips)}


def _means_as_original(systems: Sequence[str], values: Floats) -> dict[str, float]:
    """Average as the original does: the order of the clips decides the last bit, and that how equal means rank."""
    clips = _clips_of(systems, values)
    return {system: float(np.mean(clips[system])) for system in sorted(clips)}


def _clips_of(systems: Sequence[str], values: Floats) -> dict[str, list[float]]:
    clips: dict[str, list[float]] = {}
    for system, value in zip(systems, values.tolist(), strict=True):
        clips.setdefault(system, []).append(value)
    return clips


@dataclass(frozen=True, eq=False)
class Points:
    """What is compared in one view: the clips themselves, or the systems' means.

    Attributes:
        predicted: (N,) float64.
        truth: (N,) float64.
        system: (N,) int, the system that each point comes from, 0 to G - 1 in the order of their names.
    """

    predicted: Floats
    truth: Floats
    system: NDArray[np.intp]


def points_of(
    predictions: Predictions,
    labels: Labels,
    system_truth: Mapping[str, tuple[float, float]] | None = None,
    name: str = "predictions",
    *,
    as_original: bool = False,
) -> dict[str, Points]:
    """Join predictions with labels by clip id, and average both over each system's clips.

    Args:
        system_truth: (MI, TA) of each system as listeners gave them, of others too; None: the means of the
            clips' labels.
        name: what to call the predictions in a message.
        as_original: average as the published code does, in the order of `labels`. Equal means then rank as float
            rounding leaves them, so that system-level SRCC and KTAU depend on the order of a list's lines.
    Returns:
        The points of each of `VIEWS`: clips in the order of their ids (of `labels`, as the original), systems in the
        order of their names.
    Raises:
        DataError: the two do not hold the same clips, a label occurs twice, a system has no truth.
    """
    rows = np.array(join_ids(predictions.ids, labels.ids, name, "the labels"))
    order = np.argsort(rows) if as_original else np.arange(len(rows))
    predicted = {target: getattr(predictions, target)[order] for target in TARGETS}
    truth = {target: getattr(labels, target)[rows[order]] for target in TARGETS}
    systems = [labels.systems[row] for row in rows[order]]
    means_of = _means_as_original if as_original else system_means
    names, system = np.unique(systems, return_inverse=True)
    if system_truth is None:
        true_means = {target: means_of(systems, values) for target, values in truth.items()}
    elif unknown := sorted(set(systems) - set(system_truth)):
        raise DataError(f"system-level truth: nothing for systems {first_five(unknown)}, expected MI and TA")
    else:
        true_means = {
            "mi": {system: mi for system, (mi, _) in system_truth.items()},
            "ta": {system: ta for system, (_, ta) in system_truth.items()},
        }

    def per_system(target: str) -> Points:
        means = means_of(systems, predicted[target])
        true = np.array([true_means[target][name] for name in means])
        return Points(np.array(list(means.values())), true, np.arange(len(names)))

    return {f"utt_{target}": Points(predicted[target], truth[target], system) for target in TARGETS} | {
        f"sys_{target}": per_system(target) for target in TARGETS
    }


def scores_of(points: Mapping[str, Points]) -> Scores:
    """Compute the sixteen numbers of what `points_of` returns."""
    agreements = {view: Agreement.of(points[view].predicted, points[view].truth) for view in VIEWS}
    return Scores(**agreements, n_clips=len(points["utt_mi"].truth), n_systems=len(points["sys_mi"].truth))


def compute_metrics(
    predictions: Predictions,
    labels: Labels,
    system_truth: Mapping[str, tuple[float, float]] | None = None,
    *,
    as_original: bool = False,
) -> Scores:
    """Compare predictions with labels: the sixteen numbers of their `points_of`, which lists what may be raised."""
    return scores_of(points_of(predictions, labels, system_truth, as_original=as_original))
