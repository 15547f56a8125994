"""Helpers of the tests of fusion."""

import json
from pathlib import Path

import numpy as np
import yaml

from audiomos_cache.cache.fingerprint import Fingerprint
from audiomos_cache.dataset.labels import Labels
from audiomos_cache.evaluation.predictions import Predictions, write_predictions
from audiomos_cache.fusion.align import align_labels, join_members
from audiomos_cache.fusion.base import fusion_class
from audiomos_cache.fusion.fitting import fit as fit_fusion
from audiomos_cache.fusion.folds import Folds
from audiomos_cache.fusion.fuse import fuse as fuse_members
from audiomos_cache.targets import gaussian_distribution

GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"


MODELS = ("dist_a", "dist_b", "coral_c")


DEV, EVAL = ([GOLDEN / f"{model}_{split}.pt" for model in MODELS] for split in ("dev", "eval"))


LABELS = GOLDEN / "dev_mos_list.txt"


F00D = Fingerprint.of({"audio_encoder": {"name": "f00d"}}).digest


def scalar(ids="ab", mi=(1.0, 2.0), ta=(3.0, 4.0)):
    return Predictions.build(ids, mi, ta)


def distribution(ids="ab", mi=(3.0, 4.0), ta=(1.0, 2.0), bins=4):
    return Predictions.build(ids, mi, ta, gaussian_distribution(mi, bins, 0.5), gaussian_distribution(ta, bins, 0.5))


def labels_of(ids, mi, ta=None, systems=None):
    mi = np.asarray(mi, float)
    return Labels(tuple(ids), tuple(systems or ["S"] * len(ids)), mi, mi if ta is None else np.asarray(ta, float))


def no_groups(labels, count=5):
    return Folds.by("none", labels, count=count)


def clip_ids(count, systems=8):
    """Ids as the challenge has them: each prompt by some of the systems."""
    return [f"audiomos2025-track1-S{20 + n % systems:03d}_P{n // systems:03d}" for n in range(count)]


def make_run(folder, fingerprint="f00d", splits=("dev", "eval"), best="loss", *, clips=None, history=(), seed=1):
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


def read_answer(path):
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], float)


def fuse(sources, out, *, overwrite=False, n_boot=0, **options):
    """Fuse, without intervals unless they are asked for."""
    return fuse_members(sources, out=out, n_boot=n_boot, overwrite=overwrite, **options)


def apply_fusion(folder, sources, out, **options):
    """Apply an earlier fusion to other predictions of its members."""
    return fuse_members(sources, out=out, from_fusion=folder, **options)


def fit(method, names, members, labels, folds=None):
    """Fit a method to predictions and labels that are joined by id."""
    ids, joined = join_members(members, names)
    return fit_fusion(fusion_class(method), joined, align_labels(labels, ids, names[0]), folds or no_groups(labels))


def good_and_random(seed, clips=412, slope=0.95, noise=0.2, random_around_the_mean=False):
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
