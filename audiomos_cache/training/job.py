"""One head to train, and what its run remembers of how it was made."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from audiomos_cache.config import HeadConfig, scaled_lr
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.data import TrainingClips
from audiomos_cache.training.run import versions
from audiomos_cache.training.targeted import objective_of


@dataclass(frozen=True, slots=True)
class HeadJob:
    """One head to train: name of the run, its config, its seed."""

    name: str
    config: HeadConfig
    seed: int

    @property
    def wants_ratings(self) -> bool:
        """Whether the head is trained on single ratings instead of their mean."""
        return objective_of(self.config).wants_ratings


def run_config(job: HeadJob, clips: TrainingClips, device: str) -> dict[str, Any]:
    """Put together what a run remembers of how it was made."""
    reader = clips.reader
    return {
        "name": job.name,
        "seed": job.seed,
        "head": job.config.model_dump(),
        "resolved_lr": scaled_lr(job.config.training.lr, reader.audio_dim),
        "audio_dim": reader.audio_dim,
        "text_dim": reader.text_dim,
        "audio_layers": list(reader.layers),
        "layers_read": list(layers_to_read(job.config.layers, reader.layers)),
        "device": device,
        "data": {"train": _described(clips.train, job), "dev": _described(clips.dev, job)},
        "encoders": reader.provenance,
        "fingerprint": reader.fingerprint.digest,
        "fingerprint_fields": reader.fingerprint.fields,
        "versions": versions(),
    }


def what_decides(content: Mapping[str, Any], *, how: bool = True) -> dict[str, Any]:
    """Return the part of a run's config that decides its numbers, as plain JSON has it.

    Args:
        content: the config.
        how: whether to take in the device and the versions, which decide the last digits.
    """
    left_out = {"name", "encoders", "resolved_lr", "fingerprint", *(() if how else ("device", "versions"))}
    kept = {key: value for key, value in content.items() if key not in left_out}
    with suppress(ValidationError):  # by a version that had other keys
        kept["head"] = HeadConfig.model_validate(kept["head"]).model_dump()
    kept["data"] = {
        role: {key: value for key, value in described.items() if key != "from"}
        for role, described in kept["data"].items()
    }
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def _described(clips: ClipSet, job: HeadJob) -> dict[str, Any]:
    described = {"from": clips.name, "clips": len(clips), "labels_xxh3_128": clips.labels_hash()}
    return described | ({"ratings_xxh3_128": clips.ratings_hash()} if job.wants_ratings else {})
