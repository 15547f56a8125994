"""Predictions of a trained head on cached clips."""

import torch

from audiomos_cache.batch import chunks
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.heads.model import Head, HeadOutput
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.computing import PLAINLY, Computing


@torch.inference_mode()
def run_head(head: Head, batches: FeatureBatches, computing: Computing = PLAINLY) -> list[HeadOutput]:
    """Run a head over a clip set, in order, in evaluation mode, on the batches' device."""
    head.eval()
    with computing.uncompiled(), computing.autocast(batches.device):
        return [
            head.compute(features.frames, features.frame_mask, features.tokens, features.token_mask)
            for features in batches.stream(chunks(range(len(batches.clips)), batches.eval_size))
        ]


def predictions_of(outputs: list[HeadOutput], batches: FeatureBatches) -> Predictions:
    """Put a head's outputs for a clip set together.

    Raises:
        DataError: a prediction is not finite; names the clips.
    """
    told = [output.columns() for output in outputs]
    columns = {name: torch.cat([each[name] for each in told]).double().cpu().numpy() for name in told[0]}
    return Predictions.build(batches.clips.ids, **columns)
