"""A clip as a user gives it: a file or samples, and a prompt."""

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from audiomos_cache.audio.decode import Channels
from audiomos_cache.dataset.clip import clip_id_of
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.sounds import Sound, channels_of, read_sound, sound_of

SoundLike = str | PathLike[str] | NDArray[Any] | Tensor


@dataclass(frozen=True, slots=True)
class Wanted:
    """A clip to score.

    Attributes:
        id: what the score is found by again.
        sound: the file, or samples; or what is wrong with what was given, which is told when its turn comes.
        prompt: as it was given.
    """

    id: str
    sound: Path | Channels | DataError
    prompt: str | None

    @property
    def path(self) -> str | None:
        """The file's, where it is one."""
        return str(self.sound) if isinstance(self.sound, Path) else None

    @property
    def text(self) -> str | None:
        """What is encoded of the prompt: without outer blanks, as in every list of prompts; None: nothing."""
        return (self.prompt or "").strip() or None

    def hear(self, sample_rate_hz: int, window_s: float) -> Sound:
        """Return the sound, at the encoder's rate, in windows.

        Raises:
            DataError: it cannot be read.
        """
        if isinstance(self.sound, DataError):
            raise self.sound
        if isinstance(self.sound, Channels):
            return sound_of(self.sound, sample_rate_hz, window_s)
        return read_sound(self.sound, sample_rate_hz, window_s)


def wanted_of(place: int, sound: SoundLike, prompt: object, name: str | None, sample_rate: float | None) -> Wanted:
    """Take what a user gave for the clip at `place`, and a copy of samples; see `Scorer.score`."""
    try:
        text = _text(place, prompt)
        if isinstance(sound, str | PathLike):
            path = Path(fspath(sound))
            if "\0" in str(path):
                raise DataError(f"{str(path)!r}: no file can have this name")
            return Wanted(clip_id_of(path.name) if name is None else name, path, text)
        own = str(place) if name is None else name
        return Wanted(own, channels_of(f"clip {own}", sound, sample_rate), text)
    except DataError as error:
        return Wanted(str(place) if name is None else name, error, None)


def _text(place: int, prompt: object) -> str | None:
    if prompt is None:
        return None
    try:
        if isinstance(prompt, str):
            prompt.encode()  # half a surrogate pair cannot be
            return prompt
    except UnicodeEncodeError:
        pass
    raise DataError(f"clip {place}: its prompt is {prompt!r:.80}, expected a text or None")
