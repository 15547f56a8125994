"""Helpers of the tests of fusion."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.predictions import Predictions, write_predictions
from audiomos_cache.fusion.align import align_labels, join_members
from audiomos_cache.fusion.base import fusion_class
from audiomos_cache.fusion.fitting import fit as fit_fusion
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.fusion.fuse import fuse as fuse_members
from audiomos_cache.targets import gaussian_distribution

Floats = NDArray[np.float64]
Scores = Sequence[float] | Floats

GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"


MODELS = ("dist_a", "dist_b", "coral_c")


DEV, EVAL = ([GOLDEN / f"{model}_{split}.pt" for model in MODELS] for split in ("dev", "eval"))


LABELS = GOLDEN / "dev_mos_list.txt"


F00D = Fingerprint.of({"audio_encoder": {"name": "f00d"}}).digest


def scalar(ids: Sequence[str] = "ab", mi: Scores = (1.0, 2.0), ta: Scores = (3.0, 4.0)) -> Predictions:
    return Predictions.build(ids, mi, ta)


def distribution(
    ids: Sequence[str] = "ab", mi: Scores = (3.0, 4.0), ta: Scores = (1.0, 2.0), bins: int = 4
) -> Predictions:
    return Predictions.build(ids, mi, ta, gaussian_distribution(mi, bins, 0.5), gaussian_distribution(ta, bins, 0.5))


def labels_of(ids: Sequence[str], mi: Scores, ta: Scores | None = None, systems: Sequence[str] | None = None) -> Labels:
    mi = np.asarray(mi, float)
    return Labels(tuple(ids), tuple(systems or ["S"] * len(ids)), mi, mi if ta is None else np.asarray(ta, float))


def no_groups(labels: Labels, count: int = 5) -> Folds:
    return Folds.by("none", labels, count=count)


def clip_ids(count: int, systems: int = 8) -> list[str]:
    """Ids as the challenge has them: each prompt by some of the systems."""
    return [f"audiomos2025-track1-S{20 + n % systems:03d}_P{n // systems:03d}" for n in range(count)]


def make_run(
    folder: Path,
    fingerprint: str = "f00d",
    splits: Sequence[str] = ("dev", "eval"),
    best: str = "loss",
    *,
    clips: Mapping[str, Any] | None = None,
    history: Iterable[Mapping[str, Any]] = (),
    seed: int = 1,
) -> Path:
    """Write a run of made-up predictions of the clips a and b."""
    (folder / "predictions").mkdir(parents=True)
    fields = {"audio_encoder": {"name": fingerprint}}
    config = {"seed": seed, "fingerprint": Fingerprint.of(fields).digest, "fingerprint_fields": fields}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    if clips is not None:
        (folder / "clips.json").write_text(json.dumps(clips))
    for split in splits:
        write_predictions(folder / "predictions" / f"{split}.{best}.jsonl", distribution())
    return folder


def read_answer(path: Path) -> tuple[list[str], Floats]:
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], float)


def fuse(sources: Sequence[Path], out: Path, *, overwrite: bool = False, n_boot: int = 0, **options: Any) -> Any:
    """Fuse, without intervals unless they are asked for."""
    return fuse_members(sources, out=out, n_boot=n_boot, overwrite=overwrite, **options)


def apply_fusion(folder: Path, sources: Sequence[Path], out: Path, **options: Any) -> Any:
    """Apply an earlier fusion to other predictions of its members."""
    return fuse_members(sources, out=out, from_fusion=folder, **options)


def fit(
    method: str, names: Sequence[str], members: Sequence[Predictions], labels: Labels, folds: Folds | None = None
) -> Any:
    """Fit a method to predictions and labels that are joined by id."""
    ids, joined = join_members(members, names)
    learned: Any = fusion_class(method)
    return fit_fusion(learned, joined, align_labels(labels, ids, names[0]), folds or no_groups(labels))


def good_and_random(
    seed: int, clips: int = 412, slope: float = 0.95, noise: float = 0.2, random_around_the_mean: bool = False
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Labels, the scores of three good members amid 40 random ones, and which are good.

    Listeners hear what is good, and add noise; the good members know it, but for a slope and noise of their own. The
    random ones are noise on the whole scale, or around its middle.
    """
    random = np.random.default_rng(seed)
    quality = random.normal(3.2, 0.7, clips)
    truth = np.clip(quality + random.normal(0, 0.3, clips), 1, 5)
    good = 3.2 + slope * (quality - 3.2) + random.normal(0, noise, (3, clips))
    chance = random.normal(3.2, 0.5, (40, clips)) if random_around_the_mean else random.uniform(1, 5, (40, clips))
    scores = np.vstack([chance[:20], good, chance[20:]])
    return scores, truth, np.isin(np.arange(43), np.arange(20, 23))
