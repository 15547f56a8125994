"""What is scored, and what comes of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

DECIMALS = 6
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Item:
    """A file to score.

    Attributes:
        id: what the score is found by again.
        path: wav, flac, ogg or mp3.
        prompt: the text that the music was made from; None: MI alone is asked for.
    """

    id: str
    path: Path
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What a bundle says about one clip.

    Attributes:
        id: the item's.
        path: of the file; None of an array.
        prompt: the item's.
        mi: music impression, 1 to 5; None where the clip cannot be scored.
        ta: text alignment, 1 to 5; None too where there is no prompt.
        mi_interval, ta_interval: hold the mean opinion of listeners for 80 % of clips like those that the bundle was
            calibrated on; None where there is no score, or the bundle was not calibrated.
        duration_s: of the whole clip; None where it cannot be read.
        windows: how many pieces it was scored in: more than one, if it is longer than the encoders take at once.
        mi_spread, ta_spread: standard deviation of the windows' scores, weighted by length; None of a single window.
        warnings: what is odd about it, a text each.
        error: why it could not be scored; None if it was.
    """

    id: str
    path: str | None
    prompt: str | None
    mi: float | None = None
    ta: float | None = None
    mi_interval: Interval | None = None
    ta_interval: Interval | None = None
    duration_s: float | None = None
    windows: int = 0
    mi_spread: float | None = None
    ta_spread: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, the same keys for every clip, numbers with `DECIMALS`."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, DECIMALS)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
