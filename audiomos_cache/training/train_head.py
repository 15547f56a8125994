"""Training heads on a cache: for each head and seed a run folder, with predictions of every split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from audiomos_cache.cache import CacheReader, open_cache
from audiomos_cache.config import HeadConfig, scaled_lr
from audiomos_cache.errors import DataError, first_five
from audiomos_cache.files import whole_folder
from audiomos_cache.heads import build_head
from audiomos_cache.heads.layers import WeightedLayers, layers_to_read
from audiomos_cache.metrics import Scores, evaluate
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.frames import FrameSource, Preload, open_frames
from audiomos_cache.training.inference import predictions_of, run_head
from audiomos_cache.training.loop import Trained, train
from audiomos_cache.training.run import RunWriter, refuse_existing, versions


@dataclass(frozen=True, slots=True)
class HeadJob:
    """One head to train: name of the run, its config, its seed."""

    name: str
    config: HeadConfig
    seed: int


@dataclass(frozen=True, slots=True)
class HeadResult:
    """A finished run: its folder, epochs trained, and the dev numbers of each best checkpoint."""

    folder: Path
    epochs: int
    dev: Mapping[str, Scores]


@dataclass(frozen=True, slots=True)
class _Data:
    """What all heads of a command are trained on, and the splits they predict. The frames are there once for all."""

    train: ClipSet
    dev: ClipSet
    splits: Sequence[ClipSet]
    frames: FrameSource


def train_heads(
    jobs: Sequence[HeadJob],
    cache: Path,
    out: Path,
    *,
    train_list: Path | None = None,
    dev_list: Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    preload: Preload = "auto",
    on_epoch: Callable[[HeadJob, dict[str, Any], bool], None] = lambda _job, _line, _last: None,
) -> list[HeadResult]:
    """Train each job on the cache's train split, choose checkpoints on its dev split, and write a run for each.

    Args:
        jobs: the heads.
        cache: the cache folder.
        out: where the run folders go.
        train_list, dev_list: clips and labels to use instead of the splits.
        overwrite: replace runs of the same name.
        device: `cpu` or `cuda`.
        preload: where the features are held meanwhile; see `open_frames`. No number depends on it.
        on_epoch: told each epoch's line of the history, and whether it is the last.
    Raises:
        OutputExistsError: a run exists already; nothing is trained then. DataError: missing labels, or clips in both
        lists. ConfigError: a head that cannot be built for this cache. CacheError: no such cache or split, or damaged
        features.
    """
    names = [job.name for job in jobs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"runs that would have the same name: {first_five(repeated)}; give each head and seed once")
    refuse_existing([out / name for name in names], overwrite=overwrite)
    readers = open_cache(cache)
    train_clips, dev_clips = _clips(readers, cache, "train", train_list), _clips(readers, cache, "dev", dev_list)
    _check(train_clips, dev_clips)
    layers = _check_heads(jobs, train_clips.first_reader)
    frames = open_frames(list(readers.values()), layers, torch.device(device), preload)
    data = _Data(train_clips, dev_clips, [ClipSet.of_reader(reader) for reader in readers.values()], frames)
    results = []
    for job in jobs:
        with whole_folder(out / job.name, replace=overwrite) as folder:
            trained = _train_one(job, RunWriter(folder), data, partial(on_epoch, job))
        dev = {name: trained.scores[best.epoch - 1] for name, best in trained.bests.items()}
        results.append(HeadResult(out / job.name, len(trained.history), dev))
    return results


def _train_one(
    job: HeadJob, writer: RunWriter, data: _Data, on_epoch: Callable[[dict[str, Any], bool], None]
) -> Trained:
    """Train one head and write its run."""
    layers = layers_to_read(job.config.layers, data.train.first_reader.layers)
    writer.write_config(_config(job, data, layers))

    def report(line: dict[str, Any], last: bool) -> None:
        writer.append_history(line)
        on_epoch(line, last)

    train_set, dev_set, *splits = (
        FeatureBatches(clips, layers, data.frames) for clips in (data.train, data.dev, *data.splits)
    )
    trained = train(job.config, job.seed, train_set, dev_set, report)
    _write_bests(writer, trained, splits, layers)
    return trained


def _write_bests(writer: RunWriter, trained: Trained, splits: Sequence[FeatureBatches], layers: Sequence[int]) -> None:
    """Write each best checkpoint, its predictions of every split, and its numbers where there are labels."""
    metrics: dict[str, Any] = {}
    for name, best in trained.bests.items():
        writer.write_checkpoint(name, best.weights)
        trained.head.load_state_dict(best.weights)
        metrics[name] = {"epoch": best.epoch}
        if isinstance(trained.head.layers, WeightedLayers):
            shares = trained.head.layers.shares().tolist()
            metrics[name]["layer_weights"] = {str(layer): share for layer, share in zip(layers, shares, strict=True)}
        for batches in splits:
            clips = batches.clips
            predictions = predictions_of(run_head(trained.head, batches), batches)
            writer.write_predictions(clips.name, name, predictions)
            if clips.labelled:
                metrics[name][clips.name] = evaluate(predictions, clips.labels).to_json()
    writer.write_metrics(metrics)


def _clips(readers: Mapping[str, CacheReader], cache: Path, split: str, listed: Path | None) -> ClipSet:
    """Take a list's clips where there is a list, or else a split's."""
    if listed:
        return ClipSet.of_list(readers, listed)
    return ClipSet.of_reader(readers[split]) if split in readers else ClipSet.of_split(cache, split)  # which refuses


def _check_heads(jobs: Sequence[HeadJob], reader: CacheReader) -> list[int]:
    """Build every head once, without weights: what cannot be built is found before anything is trained.

    Returns:
        The layers that the heads read, all together.
    """
    with torch.device("meta"):
        for job in jobs:
            build_head(job.config, reader.audio_dim, reader.text_dim, len(reader.layers))
    return sorted({layer for job in jobs for layer in layers_to_read(job.config.layers, reader.layers)})


def _check(train_clips: ClipSet, dev_clips: ClipSet) -> None:
    """Refuse clips without labels, and clips that would be trained on and validated on."""
    for clips in (train_clips, dev_clips):
        clips.require_labels()
    both = sorted(set(train_clips.ids) & set(dev_clips.ids))
    if both:
        raise DataError(
            f"clips both in {train_clips.name} and {dev_clips.name}: {first_five(both)}; remove them from one"
        )


def _config(job: HeadJob, data: _Data, layers: Sequence[int]) -> dict[str, Any]:
    """Put together what a run remembers of how it was made."""
    reader = data.train.first_reader
    return {
        "name": job.name,
        "seed": job.seed,
        "head": job.config.model_dump(),
        "resolved_lr": scaled_lr(job.config.training.lr, reader.audio_dim),
        "audio_dim": reader.audio_dim,
        "text_dim": reader.text_dim,
        "audio_layers": list(reader.layers),
        "layers_read": list(layers),
        "device": data.frames.device.type,
        "data": {
            role: {"from": clips.name, "clips": len(clips), "labels_xxh3_128": clips.labels_hash()}
            for role, clips in (("train", data.train), ("dev", data.dev))
        },
        "encoders": reader.provenance,
        "fingerprint": reader.fingerprint.digest,
        "fingerprint_fields": reader.fingerprint.fields,
        "versions": versions(),
    }
