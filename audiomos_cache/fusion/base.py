"""What every way to blend the predictions of several members has in common.

A fusion works on arrays, row i of each being the same clip. Clip ids are joined once, where files are read
(`fusion.align`), and scoring has none:

    members = Members(names, {"mi": mi, "ta": ta}, {"mi": mi_dists, "ta": ta_dists})
    blend = fusion.apply(members)
    blend.scores["mi"]  # (N,)

A user's own method is a subclass of `Fusion` with a name, known once its module is imported.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from audiomos_cache import registry
from audiomos_cache.errors import ConfigError, DataError, first_five, quoted
from audiomos_cache.targets import TARGETS, Floats

Truth = Mapping[str, Floats]
"""Labels by target (`mi`, `ta`): (N,) from 1 to 5."""

AssignFolds = Callable[[], NDArray[np.intp]]
"""Returns the cross-validation fold of each clip: (N,), from 0. Raises DataError where there can be no two folds."""


@dataclass(frozen=True, eq=False)
class Members:
    """What M members predict of N clips.

    Attributes:
        names: M, for messages.
        scores: by target (`mi`, `ta`), (M, N) float64.
        dists: by target, for each of the M members its distributions (N, K) float64 over `bin_centres(K)`, or None.
    Raises:
        DataError: members have distributions on different numbers of bins.
    """

    names: tuple[str, ...]
    scores: Mapping[str, Floats]
    dists: Mapping[str, Sequence[Floats | None]]

    def __post_init__(self) -> None:
        for target in TARGETS:
            named = zip(self.names, self.dists[target], strict=True)
            bins = {name: dist.shape[1] for name, dist in named if dist is not None}
            if len(set(bins.values())) > 1:
                found = first_five([f"{name} has {count}" for name, count in bins.items()])
                raise DataError(
                    f"distributions of {target} on different bins: {found}; fuse heads of one number of bins, or "
                    "answers"
                )

    @property
    def clips(self) -> int:
        """How many clips there are: N."""
        return int(self.scores[TARGETS[0]].shape[1])

    def bins(self, target: str) -> int | None:
        """Return the number of bins K of the members' distributions, or None where no member has any."""
        return next((dist.shape[1] for dist in self.dists[target] if dist is not None), None)

    def take(self, rows: NDArray[np.intp]) -> "Members":
        """Return the predictions of some of the clips, by their rows."""
        return Members(
            self.names,
            {target: scores[:, rows] for target, scores in self.scores.items()},
            {target: [None if dist is None else dist[rows] for dist in dists] for target, dists in self.dists.items()},
        )


@dataclass(frozen=True, eq=False)
class Blend:
    """What a fusion predicts of N clips.

    Attributes:
        scores: by target (`mi`, `ta`), (N,) float64.
        dists: by target, (N, K) float64 over `bin_centres(K)`; a target without distributions is not in it.
    """

    scores: Mapping[str, Floats]
    dists: Mapping[str, Floats] = field(default_factory=dict)


class Fusion(ABC):
    """A way to blend M members, ready to be applied. A subclass writes `blend`, and is registered under a name.

    One that has more to keep than its members' names writes `to_json` and `from_json` too.

    Args:
        names: M, of the members in their order.

    >>> import numpy as np
    >>> from audiomos_cache import register
    >>> from audiomos_cache.fusion.base import Blend, Members
    >>> @register("fusion", "median")
    ... class MedianFusion(Fusion):
    ...     def blend(self, members):
    ...         return Blend({target: np.median(scores, axis=0) for target, scores in members.scores.items()})
    >>> MedianFusion(["a", "b", "c"])
    MedianFusion of 3 members: a, b, c
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def __repr__(self) -> str:
        count = len(self.names)
        return f"{type(self).__name__} of {count} member{'s' * (count != 1)}: {first_five(list(self.names))}"

    @property
    def method(self) -> str:
        """The name that its class is registered under.

        Raises:
            ConfigError: it has none.
        """
        for name in registry.known("fusion"):
            if registry.lookup("fusion", name) is type(self):
                return name
        own = type(self)
        raise ConfigError(f"{own.__module__}.{own.__qualname__} is not registered; write @register('fusion', NAME)")

    def apply(self, members: Members) -> Blend:
        """Blend the predictions of any N clips by the M members, in the order of `names`.

        Raises:
            DataError: another number of members, or members that the fusion was not made for.
        """
        if len(members.names) != len(self.names):
            raise DataError(f"{len(members.names)} predictions to fuse, expected {len(self.names)}")
        return self.blend(members)

    @abstractmethod
    def blend(self, members: Members) -> Blend:
        """Blend the predictions of any N clips; `apply` has checked that there are as many members as `names`."""

    def to_json(self) -> dict[str, Any]:
        """Describe all that decides what `apply` gives, except `names`, in plain values."""
        return {}

    @classmethod
    def from_json(cls, names: Sequence[str], content: dict[str, Any]) -> Self:
        """Make the fusion that `to_json` described.

        Raises:
            LookupError, TypeError, ValueError: `content` describes none.
        """
        del content
        return cls(names)


class FittedFusion(Fusion):
    """A way to blend members that is fitted to labelled clips."""

    needs_folds: bool = False
    """Whether `fit` calls `folds`."""

    @classmethod
    @abstractmethod
    def fit(cls, members: Members, truth: Truth, folds: AssignFolds) -> Self:
        """Fit to N labelled clips.

        Args:
            members: the predictions of M members.
            truth: by target, the (N,) labels of the same clips, from 1 to 5.
            folds: for what is chosen by cross-validation within these clips; not called by most methods.
        Raises:
            DataError: the clips cannot be divided into folds. ConfigError: a package that it takes is not installed.
        """


def fusion_class(method: str) -> type[Fusion]:
    """Return the class that is registered as a fusion under a name.

    Raises:
        ConfigError: there is none, or it is not a subclass of `Fusion`.
    """
    found = registry.lookup("fusion", method)
    if not (isinstance(found, type) and issubclass(found, Fusion)):
        raise ConfigError(
            f"fusion {quoted(method)}: {found!r} is registered, expected a subclass of audiomos_cache.Fusion"
        )
    return found


def finite_array(values: object, shape: tuple[int | None, ...]) -> Floats:
    """Read numbers from plain values; None in `shape` means any length.

    Raises:
        ValueError, OverflowError: another shape, or not finite numbers.
    """
    if not all(type(each) in (int, float) for each in _leaves(values)):  # NumPy reads strings as numbers, and True as 1
        raise ValueError(f"{quoted(values)}, expected numbers")
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"numbers of shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError("a number that is not finite")
    return array


def _leaves(values: object) -> Iterator[object]:
    if isinstance(values, list):
        for each in values:
            yield from _leaves(each)
    else:
        yield values
