"""The arguments of `Scorer.score` and `Scorer.score_iter`: clips, prompts and ids, in whatever holds them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from numbers import Real
from pathlib import Path
from typing import Any

from audiomos_cache.audio.decode import Audio
from audiomos_cache.audio.source import EncodedAudio
from audiomos_cache.dataset.clip import clip_id_of
from audiomos_cache.errors import DataError, in_one_line, shown
from audiomos_cache.scoring.clips import AudioLike, described, file_name, is_clip, read_clip
from audiomos_cache.scoring.inputs import Item


def items_of_arguments(
    audio: Sequence[AudioLike],
    prompts: str | Sequence[str | None] | None,
    ids: Sequence[str] | None,
    sample_rate: float | None,
) -> Iterator[Item]:
    """Take the arguments of `Scorer.score`, clip by clip.

    Raises:
        DataError: a single clip instead of a sequence, or what has no order or no length; not as many prompts or ids
            as clips, or an id twice.
    """
    if is_clip(audio):
        raise DataError(f"{described(audio)}: a single clip, expected a sequence of clips; put it in a list")
    clips = _in_order("audio", audio, "pairs (clip, prompt) to score_iter")
    one = prompts is None or isinstance(prompts, str)
    each_prompt = [prompts] * len(clips) if one else _in_order("prompts", prompts, "one string for all clips")
    names = [None] * len(clips) if ids is None else _in_order("ids", ids, "None")
    for what, given in (("prompts", each_prompt), ("ids", names)):
        if len(given) != len(clips):
            raise DataError(f"{len(given)} {what} for {len(clips)} clips, expected one for each")
    if ids is not None and not (all(isinstance(name, str) for name in names) and len(set(names)) == len(names)):
        raise DataError("ids that are not strings, or are there twice, expected a string of its own for each clip")
    each = enumerate(zip(clips, each_prompt, names, strict=True))
    return (item_of(index, *clip, sample_rate) for index, clip in each)


def items_of_stream(clips: Iterable[tuple[AudioLike, str | None]], sample_rate: float | None) -> Iterator[Item]:
    """Take the clips and prompts of `Scorer.score_iter`, one after the other.

    Raises:
        DataError: what is given is no stream; at once.
    """
    if not isinstance(clips, Iterable) or isinstance(clips, Mapping | str | bytes | bytearray | memoryview):
        raise DataError(f"found {described(clips)}, expected an iterable of pairs (clip, prompt)")
    return (_item_of_pair(index, pair, sample_rate) for index, pair in enumerate(clips))


def item_of(index: int, audio: object, prompt: object, name: str | None, sample_rate: float | None) -> Item:
    """Take what a user gave for the clip of an index; see `Scorer.score`."""
    own = str(index) if name is None else str(name)
    given = problem = None
    clip: Path | EncodedAudio | Audio | DataError
    try:
        if name is None and (file := file_name(audio)):
            own = clip_id_of(file)
        clip = read_clip(f"clip {own}", audio, sample_rate)
    except DataError as error:
        clip = error
    except Exception as error:  # an object of the user's fails where it is looked at: a file that is gone, a network
        reason = shown(in_one_line(error))
        clip = DataError(f"clip {own}: cannot be read ({type(error).__name__}: {reason})")
    try:
        given = _prompt(own, prompt)
    except DataError as error:
        problem = error
    return Item(own, clip, given, problem=problem)


def until_error(items: Iterable[Item], errors: list[Exception]) -> Iterator[Item]:
    """Give items until the user's iterator fails, and keep its error for when they are scored."""
    try:
        yield from items
    except Exception as error:  # of whatever kind
        errors.append(error)


def _item_of_pair(index: int, pair: Any, sample_rate: float | None) -> Item:
    try:
        if isinstance(pair, str | bytes | Mapping | Set):
            raise TypeError
        audio, prompt = pair
    except Exception:  # whatever the user's objects raise
        return Item(str(index), DataError(f"clip {index}: found {described(pair)}, expected a pair (clip, prompt)"))
    return item_of(index, audio, prompt, None, sample_rate)


def _in_order(name: str, given: Any, or_else: str) -> list[Any]:
    """List what a sequence holds: a list, a tuple, an array of objects or strings, a column of a table."""
    problem = ""
    of_one = isinstance(given, Mapping | str | bytes | bytearray | memoryview)
    if isinstance(given, Iterable) and not of_one:
        if isinstance(given, Set):
            problem = ", which has no order"
        elif (ndim := getattr(given, "ndim", 1)) != 1:
            problem = ", which is a table" if ndim else ", which is a single value"
        elif not hasattr(given, "__len__"):
            problem = ", which has no length"
        else:
            return list(given)
    raise DataError(f"{name}: found {described(given)}{problem}, expected a sequence; give a list, or {or_else}")


def _prompt(clip_id: str, prompt: object) -> str | None:
    """Return a prompt; None where there is none, as a table may say it too: NaN, NA."""
    if prompt is None or (isinstance(prompt, Real) and math.isnan(prompt)) or type(prompt).__name__ == "NAType":
        return None
    try:
        if isinstance(prompt, str):
            prompt.encode()  # half a surrogate pair cannot be
            return str(prompt)
    except UnicodeEncodeError:
        pass
    raise DataError(f"clip {clip_id}: its prompt is {described(prompt)}, expected a string or None")
