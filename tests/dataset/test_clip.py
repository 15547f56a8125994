"""Prompts that are not in English, as far as their letters say."""

import pytest

from audiomos_cache.dataset.clip import in_other_letters


@pytest.mark.parametrize(
    "prompt",
    [
        "", "120", "!?", "🎹🎸", "A slow piano ballad in D♭ minor (90 BPM)", "Ένα rock song", "café, Dvořák, Łódź",
        "a 古琴 melody", "ab бв", "\uff26\uff35\uff2c\uff2c width", "\U0001d41b\U0001d428\U0001d425\U0001d41d",
    ],
)  # fmt: skip
def test_english_or_nothing_that_says_otherwise(prompt: str) -> None:
    assert not in_other_letters(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "慢速钢琴曲", "スローなピアノ", "느린 피아노 발라드", "медленная баллада", "بيانو بطيء", "πιάνο", "धीमा पियानो",
        "一首慢速的钢琴曲 120 BPM", "เปียโนช้า", "פסנתר איטי", "慢 rock 钢琴曲和鼓声",
    ],
)  # fmt: skip
def test_other_letters(prompt: str) -> None:
    assert in_other_letters(prompt)
