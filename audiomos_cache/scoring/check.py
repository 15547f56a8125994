"""`check_bundle`: whether a bundle's scores fall when music gets worse, as scores of quality must.

What is checked is the whole line, from the audio to the score: an encoder with other weights, another audio chain or a
head of the wrong sign shows here, whatever figures its paper has.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from audiomos_cache.errors import (
    ArgumentError,
    AudiomosError,
    DataError,
    first_five,
    in_one_line,
    paths_of,
    reason_of,
    shown,
)
from audiomos_cache.progress import Progress, counted, no_progress
from audiomos_cache.scoring.arguments import items_of_arguments
from audiomos_cache.scoring.check_report import Check
from audiomos_cache.scoring.clips import AudioLike
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.ladders import PROMPTS, QUALITY, SEGMENTS, Ladder
from audiomos_cache.scoring.verdicts import Change, judge
from audiomos_cache.scoring.versions import Version, Versions, items_to_check, made_up_items, no_music, require_music
from audiomos_cache.targets import Target

if TYPE_CHECKING:
    from audiomos_cache.bundle.bundle import Bundle
    from audiomos_cache.scoring.results import Score
    from audiomos_cache.scoring.scorer import Scorer

log = logging.getLogger(__name__)

CheckBy: TypeAlias = "bool | str | PathLike[str] | Sequence[str | PathLike[str]]"
"""Clips to check a bundle by that is made: files, folders, manifests; True: made-up music; False: no check."""
MADE_UP = "made-up music"


def check_bundle(
    bundle: "str | PathLike[str] | Bundle | Scorer",
    clips: Sequence[AudioLike],
    prompts: str | Sequence[str | None] | None = None,
    *,
    sample_rate: float | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Check:
    """Make music worse in known ways, and see whether a bundle's scores fall.

    The middle 10 s of each clip are scored as they are; with white noise 20, 10 and 0 dB below the music; without what
    is above 4, 2 and 1 kHz; cut off 6, 12 and 24 dB below the peak; with segments of a second in another order (a
    score may be blind to that); and with another clip's prompt (of clips that share one, with an unrelated one). All
    are as loud as the clip.

    The check passes if the bundle's first target falls under noise, low-pass and clipping (on average by 0.1 or more on
    a scale of 1 to 5, and the one-sided 95 % bound excludes 0), all targets that hear prompts fall without theirs, and
    the others do not move with it. It fails if something speaks against the bundle by the same evidence: a rise, no
    effect, an untrained encoder. Else it is not decided, as with fewer than three clips; see `judge`.

    Args:
        bundle: what `Scorer` takes, or a scorer of one bundle.
        clips: as `Scorer.score` takes them, of 0.5 s or more; three or more, as fewer decide
            nothing.
        prompts: of the clips, one each, or one of all; None: no target is checked that needs one.
        sample_rate: of samples that come without their own, in Hz.
        progress: called as `progress("check", done, total)`.
        options: of the `Scorer`, where it is not loaded yet: audio_encoder, text_encoder, device, precision,
            batch_size.
    Raises:
        DataError: no clip can be heard; names the reason of each. Of the scorer: see `Scorer`.

    >>> check_bundle("model", ["song.wav"], device="cpu").passed  # with an untrained encoder
    False
    """
    items = list(items_of_arguments(clips, prompts, None, sample_rate))
    return check_items(_scorer_of(bundle, options), items, progress=progress)


def _scorer_of(bundle: "str | PathLike[str] | Bundle | Scorer", options: Mapping[str, Any]) -> "Scorer":
    from audiomos_cache.bundle.bundle import Bundle
    from audiomos_cache.scoring.scorer import Scorer

    if isinstance(bundle, str | PathLike | Bundle):
        return Scorer(bundle, **options)
    if options:
        raise ArgumentError(f"{', '.join(sorted(options))}: options of a scorer, and one was given; make it with them")
    return bundle


def check_items(
    scorer: "Scorer",
    items: Sequence[Item],
    music: str | None = None,
    *,
    remark: str = "",
    progress: Progress | None = None,
) -> Check:
    """Do what `check_bundle` does, of a scorer of one bundle and clips that are listed.

    Args:
        scorer: loaded.
        items: the clips.
        music: what they are, if nobody gave them.
        remark: ends the line that says how much will be scored.
        progress: called as `progress("check", done, total)`.
    Raises:
        DataError: no clip can be heard. ArgumentError: a scorer of several bundles.
    """
    if len(scorer.digests) > 1:
        raise ArgumentError(f"a check is of one bundle, and the scorer has {len(scorer.digests)}; check each alone")
    targets = scorer.targets
    no_prompts = _why_no_prompts(targets, items)
    ladders = (*QUALITY, SEGMENTS, *([] if no_prompts else [PROMPTS]))
    versions = Versions(items, ladders)
    scores: dict[Version, Score] = {}
    total = len(items) * (1 + sum(len(ladder.rungs) for ladder in ladders))
    clips = counted(len(items), "clip") + (f" of {music}" if music else "")
    log.info("checking the scores: up to %s of %s to score%s ...", counted(total, "version"), clips, remark)
    report = progress or no_progress
    for index, score in enumerate(scorer.score_iter(versions.pairs(), on_error="return")):
        scores[versions.given[index]] = score
        report("check", len(scores), total)
    heard, left_out = _heard(items, scores, versions.left_out)
    if len(scores) < total:
        report("check", total, total)
    rows = tuple(
        judge(target, ladder, [_change(target, ladder, rung, heard, scores) for rung in ladder.rungs], is_main=not rank)
        for rank, target in enumerate(targets)
        for ladder in ladders
    )
    return Check(
        digest=scorer.digests[0],
        clips=len(heard),
        music=music,
        rows=rows,
        untrained=scorer.untrained,
        left_out=left_out,
        problems=tuple(_problems(items, heard, scores)),
        too_short=tuple(items[clip].id for clip in versions.too_short),
        no_prompts=no_prompts,
    )


def _why_no_prompts(targets: Iterable[Target], items: Iterable[Item]) -> str:
    """Return why no prompts can be shuffled; "" if they can."""
    if not any(target.hears_prompt for target in targets):
        return "no target hears prompts"
    return "" if any(item.text for item in items) else "no clip has a prompt; give them"


class Clips(NamedTuple):
    """Clips to check by, and what they are, if nobody gave them."""

    items: Sequence[Item]
    music: str | None = None


def clips_to_check(check: CheckBy) -> Clips:
    """List the clips to check a bundle by, before it is made; none if nobody asked.

    Raises:
        DataError: a path does not exist, or no clip can be heard; names it. See `items_to_check`.
    """
    if isinstance(check, bool):
        return Clips(made_up_items(), MADE_UP) if check else Clips(())
    paths = paths_of("check", check)
    if missing := [str(path) for path in paths if not path.exists()]:
        raise DataError(f"--check {first_five(missing)}: not found, expected music; give clips, folders or manifests")
    items = items_to_check(paths, None)
    require_music(items)
    return Clips(items)


def check_made(folder: Path, name: str, clips: Clips, progress: Progress | None, **options: Any) -> Check | str:
    """Check a bundle that was written, but for its card. Where that is not possible, a warning says why.

    Args:
        folder: of the bundle.
        name: what it will be called.
        clips: by what; none: not at all.
        progress: called as `progress("check", done, total)`.
        options: of the `Scorer`.
    Returns:
        The check; or why there is none, without what is of this machine alone; "" without clips.
    """
    if not clips.items:
        return ""
    from audiomos_cache.bundle.load import load_bundle
    from audiomos_cache.scoring.scorer import Scorer

    try:
        scorer = Scorer(replace(load_bundle(folder), name=name), **options)
        return check_items(scorer, *clips, remark="; --no-check leaves it out", progress=progress)
    except (AudiomosError, OSError) as error:
        log.warning("not checked: %s", in_one_line(reason_of(error) if isinstance(error, OSError) else error))
        return "no clip could be scored" if isinstance(error, DataError) else "the encoders could not be loaded"


def _heard(
    items: Sequence[Item], scores: "dict[Version, Score]", unread: dict[int, str]
) -> tuple[list[int], dict[str, str]]:
    """Return which clips have a score as they are, and why the others were left out.

    Raises:
        DataError: there is no such clip.
    """
    failed = unread | {
        version.clip: in_one_line(score.error)
        for version, score in scores.items()
        if version.ladder is None and score.error is not None
    }
    heard = [clip for clip in range(len(items)) if clip not in failed]
    reasons = {items[clip].id: reason for clip, reason in sorted(failed.items())}
    if not heard:
        raise no_music(reasons)
    return heard, reasons


def _change(
    target: Target, ladder: Ladder, rung: float, heard: Iterable[int], scores: "dict[Version, Score]"
) -> Change:
    differences = []
    for clip in heard:
        before = _value(scores[Version(clip)], target)
        after = _value(scores.get(Version(clip, ladder, rung)), target)
        if before is not None and after is not None:
            differences.append(after - before)
    return Change.of(rung, differences)


def _value(score: "Score | None", target: Target) -> float | None:
    if score is None:
        return None
    value = score.scores.get(target.name)
    return value if value is not None and math.isfinite(value) else None


def _problems(items: Sequence[Item], heard: Iterable[int], scores: "dict[Version, Score]") -> Iterator[str]:
    known = set(heard)
    for (clip, ladder, rung), score in scores.items():
        if ladder is not None and clip in known and score.error is not None:
            yield f"{shown(items[clip].id)}, {ladder.at(rung)}: {in_one_line(score.error)}"
