"""How often heads of random weights pass the check, by chance: -m simulation -s prints the figures."""

import pytest
import torch

from audiomos_cache.bundle.bundle import Bundle, BundledHead
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.model import build_head
from audiomos_cache.scoring.check import check_items, made_up_items
from audiomos_cache.scoring.scorer import Scorer
from tests.support.check import TrainedInName
from tests.support.scoring import make_bundle

SEEDS = 100
HEADS = ("transformer-dist", "pooling-dist", "transformer-scalar")
SCALE = 3.0  # of the last layers: as they are initialised, scores hardly differ, and no head has an effect


def bundle_of(audio, text, name: str, seed: int, scale: float) -> Bundle:
    """One head of random weights."""
    torch.manual_seed(seed)
    head = build_head(name, audio.dim, text.dim).eval()
    with torch.no_grad():
        for target in (head.mi, head.ta):
            for parameter in target.parameters():
                parameter.mul_(scale)
    made = make_bundle(audio, text, pad_to_s=None)
    return Bundle(
        **{each: getattr(made, each) for each in made.__dataclass_fields__}
        | {"members": (BundledHead(name, head, audio.layers),), "fusion": MeanFusion([name])}
    )


@pytest.mark.simulation
@pytest.mark.parametrize("name", HEADS)
def test_few_heads_of_random_weights_pass(name, audio, text):
    encoders = {"audio_encoder": TrainedInName(audio), "text_encoder": TrainedInName(text), "device": "cpu"}
    for scale, most_quality, most_passed in ((1.0, 0.02, 0.02), (SCALE, 0.15, 0.08)):
        quality, passed, hint = 0, 0, 0
        for seed in range(SEEDS):
            scorer = Scorer(bundle_of(audio, text, name, seed, scale), **encoders)
            items = made_up_items()
            check = check_items(scorer, items)
            quality += not any(row.fails for row in check.rows if row.target == "mi")
            passed += check.passed
            alone = check_items(scorer, items[:1])
            hint += not any(row.fails for row in alone.rows if row.target == "mi")
        print(
            f"\n{name}, last layers x {scale:g}: of {SEEDS} heads of random weights {quality} pass for MI "
            f"({hint} by one clip), {passed} for all"
        )
        assert quality <= most_quality * SEEDS and passed <= most_passed * SEEDS
