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
from typing import TYPE_CHECKING, Any, TypeAlias

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
from audiomos_cache.scoring.clips import AudioLike
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.ladders import PROMPTS, QUALITY, SEGMENTS, Ladder
from audiomos_cache.scoring.verdicts import Change, Check, judge
from audiomos_cache.scoring.versions import Version, Versions, items_to_check, made_up_items
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

    The check passes if the bundle's first target falls under noise, low-pass and clipping (by 0.1 on a scale of 1 to 5
    and more than the standard error over the clips), all targets that hear prompts fall without theirs, the others do
    not move with it, and no encoder is untrained.

    Args:
        bundle: what `Scorer` takes, or a scorer of one bundle.
        clips: as `Scorer.score` takes them, of 0.5 s or more; three or more, to tell an effect from chance.
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
    scorer: "Scorer", items: Sequence[Item], *, music: str | None = None, progress: Progress | None = None
) -> Check:
    """Do what `check_bundle` does, of a scorer of one bundle and clips that are listed.

    Args:
        scorer: loaded.
        items: the clips.
        music: what they are, if nobody gave them.
        progress: called as `progress("check", done, total)`.
    Raises:
        DataError: no clip can be heard. ArgumentError: a scorer of several bundles.
    """
    if len(scorer.digests) > 1:
        raise ArgumentError(f"a check is of one bundle, and the scorer has {len(scorer.digests)}; check each alone")
    targets = scorer.targets
    with_prompts = any(target.hears_prompt for target in targets) and any(item.text for item in items)
    ladders = (*QUALITY, SEGMENTS, *([PROMPTS] if with_prompts else []))
    versions = Versions(items, ladders)
    scores: dict[Version, Score] = {}
    total = len(items) * (1 + sum(len(ladder.rungs) for ladder in ladders))
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
    )


def check_made(folder: Path, name: str, check: CheckBy, progress: Progress | None, **options: Any) -> Check | str:
    """Check a bundle that was written, but for its card. Where that is not possible, a warning says why.

    Args:
        folder: of the bundle.
        name: what it will be called.
        check: by what.
        progress: called as `progress("check", done, total)`.
        options: of the `Scorer`.
    Returns:
        The check; or why there is none, without what is of this machine alone; "" if nobody asked.
    Raises:
        DataError: no clips to check by, see `items_to_check`.
    """
    if check is False:
        return ""
    made_up = check is True
    items = made_up_items() if check is True else items_to_check(paths_of("check", check), None)
    log.info("checking the scores by %s of %s ...", counted(len(items), "clip"), MADE_UP if made_up else "yours")
    from audiomos_cache.bundle.load import load_bundle
    from audiomos_cache.scoring.scorer import Scorer

    try:
        scorer = Scorer(replace(load_bundle(folder), name=name), **options)
        return check_items(scorer, items, music=MADE_UP if made_up else None, progress=progress)
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
        named = [f"{shown(name)}: {reason}" for name, reason in reasons.items()]
        raise DataError(f"no clip to check with: {first_five(named) or 'none was given'}; give music")
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
