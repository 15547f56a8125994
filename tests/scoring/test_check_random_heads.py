"""How often heads of random weights pass the check, by chance: -m simulation -s prints the figures."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch

from audiomos_cache.bundle.bundle import Bundle, BundledHead
from audiomos_cache.fusion.averages import MeanFusion
from audiomos_cache.heads.model import build_head
from audiomos_cache.scoring.check import check_items
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.scorer import Scorer
from audiomos_cache.scoring.versions import made_up_items
from tests.support.check import MI, TA, KnownScorer, TrainedInName
from tests.support.scoring import make_bundle

SEEDS = 100
HEADS = ("transformer-dist", "pooling-dist", "transformer-scalar")


class Repeated(KnownScorer):
    """Gives scores that were made before."""

    def __init__(self, scores: list[Score]) -> None:
        super().__init__({}, (MI, TA))
        self.scores = scores

    def score_iter(self, clips: Iterable[object], *, on_error: str) -> Iterator[Score]:
        assert on_error == "return"
        for _, score in zip(clips, self.scores, strict=False):
            yield score


def bundle_of(bundle: Bundle, name: str, seed: int, scale: float) -> Bundle:
    """One head of random weights, those of its last layers times a factor."""
    torch.manual_seed(seed)
    head = build_head(name, 128, 64).eval()
    with torch.no_grad():
        for target in (head.mi, head.ta):
            for parameter in target.parameters():
                parameter.mul_(scale)
    members = (BundledHead(name, head, bundle.members[0].layers),)
    return replace(bundle, name=f"{name}-{seed}-x{scale:g}", members=members, fusion=MeanFusion([name]))


@pytest.mark.simulation
@pytest.mark.parametrize("name", HEADS)
def test_few_heads_of_random_weights_pass(name, audio, text):
    """As they are initialised, heads hardly tell clips apart; with last layers of three times that, they do."""
    items = made_up_items()
    recorder = KnownScorer({"mi": lambda *_: 3.0}, (MI, TA))
    check_items(recorder, items)
    versions = [((24_000, samples), prompt) for samples, prompt in recorder.heard]
    of_a_clip = len(versions) // len(items)
    made = make_bundle(audio, text, pad_to_s=None)
    for scale, most in ((1.0, 0.02), (3.0, 0.15)):
        bundles = [bundle_of(made, name, seed, scale) for seed in range(SEEDS)]
        scorer = Scorer(bundles, audio_encoder=TrainedInName(audio), text_encoder=TrainedInName(text), device="cpu")
        scores = list(scorer.score_iter(versions, on_error="return"))
        count = {"mi": 0, "all": 0, "mi of one clip": 0}
        for bundle in bundles:
            own = [score.bundles[bundle.name] for score in scores]
            four, one = check_items(Repeated(own), items), check_items(Repeated(own[:of_a_clip]), items[:1])
            count["mi"] += not any(row.fails for row in four.rows if row.target == "mi")
            count["all"] += four.passed
            count["mi of one clip"] += not any(row.fails for row in one.rows if row.target == "mi")
        print(f"\n{name}, last layers x {scale:g}: of {SEEDS} heads of random weights pass {count}")
        assert count["mi"] <= most * SEEDS and count["all"] <= count["mi"]
