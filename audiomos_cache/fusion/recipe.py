"""What is asked for when a fusion is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiomos_cache.dataset.clip import check_split
from audiomos_cache.errors import ConfigError
from audiomos_cache.fusion.folds import DEFAULT_FOLDS
from audiomos_cache.fusion.methods import LEARNED, METHODS


@dataclass(frozen=True)
class Recipe:
    """How a fusion is made.

    Attributes:
        method: a key of `METHODS`.
        labels: the fit split's list or manifest, for a method that learns; the others do not read it.
        fit_split: the split to learn on; None: dev of runs, for files not known (a manifest's rows are all read).
        apply_split: the split to blend; None: eval of runs, for files not known (the output names none).
        apply: with files, the apply split's, in the order of the fit split's.
        best: with runs, which of their best checkpoints: loss (its distributions fit best), srcc or combined.
        folds: of the cross-validation that tells how well a method that learns does; 0: none.
        cv_group: what is held out together: prompt, system or none.
        seed: of the folds, and of the resamples.
        n_boot: resamples of the intervals of the out-of-fold scores; 0: no intervals.
        allow_missing: leave out the clips that not all members have, instead of refusing them.
    Raises:
        ConfigError: an unknown method. DataError: a split that cannot name a file.
    """

    method: str = "ridge"
    labels: Path | None = None
    fit_split: str | None = None
    apply_split: str | None = None
    apply: Sequence[Path] = ()
    best: str = "loss"
    folds: int = DEFAULT_FOLDS
    cv_group: str = "prompt"
    seed: int = 0
    n_boot: int = 10_000
    allow_missing: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"fusion method {self.method!r} is not one of {', '.join(sorted(METHODS))}")
        for split in (self.fit_split, self.apply_split):
            if split is not None:
                check_split(split)  # it becomes part of a file's name

    @property
    def learns(self) -> bool:
        """Whether the method is fitted on labelled clips."""
        return self.method in LEARNED


RIDGE = Recipe()
