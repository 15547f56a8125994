"""For our tests and our users' tests: made-up music in the MusicEval layout, and encoders that cost nothing."""

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

__all__ = [
    "DAMAGE_SPREAD",
    "DEMO_SYSTEMS",
    "SAMPLE_RATE_HZ",
    "SYSTEMS",
    "WORDS",
    "FakeAudioEncoder",
    "FakeTextEncoder",
    "PromptWords",
    "damage",
    "make_dataset",
    "render_prompt",
]
