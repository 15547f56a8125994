"""For tests, ours and users': checks of heads and encoders, made-up music and weights, encoders that cost nothing."""

from audiomos_cache.testing.check_encoder import check_encoder
from audiomos_cache.testing.check_head import check_head
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from audiomos_cache.testing.music import (
    DAMAGE_SPREAD,
    DEMO_SYSTEMS,
    SAMPLE_RATE_HZ,
    SYSTEMS,
    WORDS,
    PromptWords,
    damage,
    make_dataset,
    render_prompt,
)
from audiomos_cache.testing.published import make_muq_eval

__all__ = [
    "DAMAGE_SPREAD",
    "DEMO_SYSTEMS",
    "SAMPLE_RATE_HZ",
    "SYSTEMS",
    "WORDS",
    "FakeAudioEncoder",
    "FakeTextEncoder",
    "PromptWords",
    "check_encoder",
    "check_head",
    "damage",
    "make_dataset",
    "make_muq_eval",
    "render_prompt",
]
