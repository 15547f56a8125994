"""What is refused before anything is trained."""

from collections.abc import Sequence

import torch

from audiomos_cache.errors import ConfigError, DataError, first_five
from audiomos_cache.heads.layers import layers_to_read
from audiomos_cache.heads.model import build_head
from audiomos_cache.training.data import Lists, TrainingClips
from audiomos_cache.training.job import HeadJob
from audiomos_cache.training.optimizer import LearningRate, steps_per_epoch


def check_names(jobs: Sequence[HeadJob]) -> None:
    """Refuse two runs of one name."""
    names = [job.name for job in jobs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"runs that would have the same name: {first_five(repeated)}; give each head and seed once")


def check_ratings(jobs: Sequence[HeadJob], lists: Lists) -> None:
    """Refuse ratings that no head reads, and heads whose ratings are missing."""
    reading = [job.name for job in jobs if job.wants_ratings]
    if lists.raters and not reading:
        raise ConfigError(
            f"--rater-list {first_five(list(map(str, lists.raters)))}: no head here is trained on single ratings; "
            "leave it out, or --set output.targets=raters --set output.bins=5"
        )
    if reading and not lists.raters:
        raise ConfigError(
            f"{first_five(reading)}: output.targets is 'raters', and no ratings are given; give --rater-list, such as "
            "a person_mos list of MusicEval"
        )


def check_heads(jobs: Sequence[HeadJob], clips: TrainingClips) -> None:
    """Build every head once, without weights: what cannot be built or trained is found before anything is trained."""
    reader = clips.reader
    with torch.device("meta"):
        for job in jobs:
            build_head(job.config, reader.audio_dim, reader.text_dim, layers=len(reader.layers))
            layers_to_read(job.config.layers, reader.layers)
            LearningRate.of(job.config.training, 1.0, steps_per_epoch(job.config.training, len(clips.train)))
