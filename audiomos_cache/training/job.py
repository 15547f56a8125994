"""One head to train, and what its run remembers of how it was made."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError

from audiomos_cache.heads.config import HeadConfig, scaled_lr
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.runs import versions
from audiomos_cache.training.clips import ClipSet
from audiomos_cache.training.data import TrainingClips
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


def run_config(job: HeadJob, clips: TrainingClips, device: str, precision: str = "fp32") -> dict[str, Any]:
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
        "threads": torch.get_num_threads() if device == "cpu" else None,
        "precision": precision,
        "data": {"train": _described(clips.train, job), "dev": _described(clips.dev, job)},
        "encoders": reader.provenance,
        "fingerprint": reader.fingerprint.digest,
        "fingerprint_fields": reader.fingerprint.fields,
        "versions": versions(),
    }


def job_differences(found: Mapping[str, Any], wanted: Mapping[str, Any], *, how: bool = True) -> list[str]:
    """Name what differs between two runs' configs that decides their numbers: `head.dropout is 0.3, here 0.1`.

    Args:
        found, wanted: what `run_config` returns, or what was read of it.
        how: whether device, precision and versions count, which decide the last digits.
    """
    return list(_differences(_what_decides(found, how), _what_decides(wanted, how), ""))


def _what_decides(config: Mapping[str, Any], how: bool) -> dict[str, Any]:
    """Return what decides a run's numbers, as plain JSON has it.

    Not the number of threads, though it decides the last digits: a training that goes on keeps it.
    """
    left_out = {"name", "encoders", "resolved_lr", "fingerprint", "threads"}
    left_out |= set() if how else {"device", "precision", "versions"}
    kept = {key: value for key, value in config.items() if key not in left_out}
    with suppress(ValidationError):  # of a version that had other keys
        kept["head"] = HeadConfig.model_validate(kept["head"]).model_dump()
    kept["data"] = {
        role: {key: value for key, value in described.items() if key != "from"}
        for role, described in kept["data"].items()
    }
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def _differences(found: object, wanted: object, where: str) -> Iterator[str]:
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in sorted(found.keys() | wanted.keys()):
            inner = f"{where}.{key}" if where else key
            yield from _differences(found.get(key, "(absent)"), wanted.get(key, "(absent)"), inner)
    elif found != wanted:
        yield f"{where} is {found!r}, here {wanted!r}"


def _described(clips: ClipSet, job: HeadJob) -> dict[str, Any]:
    described = {"from": clips.name, "clips": len(clips), "labels_xxh3_128": clips.labels_hash()}
    return described | ({"ratings_xxh3_128": clips.ratings_hash()} if job.wants_ratings else {})
