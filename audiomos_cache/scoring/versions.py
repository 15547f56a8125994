"""The clips of a check, and what the ladders make of them: one clip in memory at a time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from audiomos_cache.audio.resample import resample
from audiomos_cache.dataset.manifests import MANIFESTS
from audiomos_cache.errors import ArgumentError, DataError, first_five, in_one_line, shown
from audiomos_cache.scoring.arguments import items_of_arguments
from audiomos_cache.scoring.check_report import EXCERPT_S
from audiomos_cache.scoring.inputs import Item, items_of_manifest, items_of_paths
from audiomos_cache.scoring.ladders import PROMPTS, RATE_HZ, Ladder, Samples, segments_in
from audiomos_cache.scoring.windows import WindowRule

SHORTEST_S = 0.5
UNRELATED = (
    "A brutal death metal song with growled vocals and blast beats.",
    "A solo harpsichord playing a baroque fugue in a small church.",
    "A drone of rain and wind with no melody and no rhythm.",
    "Children singing a lullaby together without instruments.",
)
"""Prompts for clips that all have the same one: hardly any music fits two of them."""
_MADE_UP_WORDS = (
    ("slow", "sad", "low", "organ", "without"),
    ("fast", "happy", "high", "synth", "with"),
    ("slow", "happy", "high", "flute", "without"),
    ("fast", "sad", "low", "guitar", "with"),
    ("slow", "happy", "low", "synth", "with"),
    ("fast", "sad", "high", "organ", "without"),
    ("slow", "sad", "high", "guitar", "with"),
    ("fast", "happy", "low", "flute", "without"),
)


def items_to_check(paths: Sequence[Path], prompt: str | None) -> list[Item]:
    """List the clips of files and folders, which share a prompt, and of manifests, whose rows have their own.

    Raises:
        DataError: see `items_of_paths` and `items_of_manifest`. ArgumentError: manifests and a prompt.
    """
    listed = [path for path in paths if path.suffix.lower() in MANIFESTS and not path.is_dir()]
    if listed and prompt is not None:
        raise ArgumentError(f"--prompt goes without {listed[0]}, whose rows have their own")
    files = [path for path in paths if path not in listed]
    return [*items_of_paths(files, prompt), *(item for path in listed for item in items_of_manifest(path))]


def made_up_items() -> list[Item]:
    """Make eight clips of music of several kinds, with the prompts that they were made from.

    Eight, as four leave too much open. 40 of 40 heads that were fitted to damage of such music pass by the first four
    too, but by four clips of other words 94 %, by eight 99.6 %. The prompts decide: a demo's TA, which falls by 1.4
    without its prompt, is told by the eight, not by the first four; by clips of other words in 55 % and 17 %.
    """
    from audiomos_cache.testing.music import SAMPLE_RATE_HZ, PromptWords, render_prompt

    words = [PromptWords(*each) for each in _MADE_UP_WORDS]
    clips = [(SAMPLE_RATE_HZ, render_prompt(each, EXCERPT_S, seed)) for seed, each in enumerate(words)]
    return list(items_of_arguments(clips, [each.text for each in words], None, None))


def require_music(items: Sequence[Item]) -> None:
    """Refuse clips of which none can be heard; the first that can is enough.

    Raises:
        DataError: names them.
    """
    reasons = {}
    for item in items:
        try:
            _excerpt(item)
            return
        except DataError as error:
            reasons[item.id] = in_one_line(error)
    raise no_music(reasons)


def no_music(reasons: Mapping[str, str]) -> DataError:
    """Return the error that no clip can be heard, for these reasons."""
    named = [f"{shown(name)}: {reason}" for name, reason in reasons.items()]
    return DataError(f"no clip to check with: {first_five(named) or 'none was given'}; give music")


class Version(NamedTuple):
    """A clip as it is (no ladder), or what a rung makes of it."""

    clip: int
    ladder: Ladder | None = None
    rung: float = 0.0


class Versions:
    """The clips to score and all that the ladders make of them.

    Args:
        items: the clips.
        ladders: what is done to them.

    Attributes:
        given: which were given so far, in order.
        left_out: why a clip cannot be heard, by its index.
        too_short: indices of clips that have too few segments.
    """

    def __init__(self, items: Sequence[Item], ladders: Sequence[Ladder]) -> None:
        self.given: list[Version] = []
        self.left_out: dict[int, str] = {}
        self.too_short: list[int] = []
        self._items, self._ladders = items, ladders
        self._others = other_prompts([item.text for item in items])

    def pairs(self) -> Iterator[tuple[tuple[int, Samples], str | None]]:
        """Give each version as `Scorer.score_iter` takes it."""
        for clip, item in enumerate(self._items):
            try:
                samples = _excerpt(item)
            except DataError as error:
                self.left_out[clip] = in_one_line(error)
                continue
            for version, made in self._of_clip(clip, samples):
                self.given.append(version)
                yield (RATE_HZ, made), self._others[clip] if version.ladder == PROMPTS else item.text

    def _of_clip(self, clip: int, samples: Samples) -> Iterator[tuple[Version, Samples]]:
        yield Version(clip), samples
        for ladder in self._ladders:
            if ladder == PROMPTS and self._others[clip] is None:
                continue
            if segments_in(samples) < ladder.fewest_segments:
                self.too_short.append(clip)
                continue
            for rung in ladder.rungs:
                yield Version(clip, ladder, rung), ladder.apply(samples, rung, clip)


def other_prompts(prompts: Sequence[str | None]) -> list[str | None]:
    """Return for each prompt that of the next clip that has another; where all are alike, an unrelated one."""
    found: list[str | None] = []
    for index, prompt in enumerate(prompts):
        others = [each for each in (*prompts[index:], *prompts[:index]) if each not in (None, prompt)]
        unrelated = UNRELATED[index % len(UNRELATED)]
        found.append(None if prompt is None else (others[0] if others else unrelated))
    return found


def _excerpt(item: Item) -> Samples:
    """Return the middle of a clip, at `RATE_HZ`.

    Raises:
        DataError: it cannot be read, is silent, or is too short.
    """
    [middle] = item.decode().cut(WindowRule("centre", EXCERPT_S), RATE_HZ).pieces
    if middle.duration_s < SHORTEST_S:
        raise DataError(f"{middle.duration_s:.2f} s long, expected {SHORTEST_S:g} s or more; give a longer clip")
    samples: Samples = resample(middle.samples, middle.sample_rate_hz, RATE_HZ)
    return samples
