"""Where the bytes of an audio file come from: a file, or memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audiomos_cache.errors import DataError
from audiomos_cache.files import read_file, refuse_lfs_pointer

MOST_BYTES = 1 << 33  # of an audio file: 8 GiB are what `samples.MOST_SAMPLES` take as doubles


class AudioSource(Protocol):
    """A `Path`, or anything else that has a name for messages and gives the bytes of a file."""

    def __str__(self) -> str: ...

    def read_bytes(self) -> bytes:
        """Return the bytes of the file."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedAudio:
    """The bytes of an audio file that somebody has read.

    Attributes:
        name: for messages.
        content: the bytes.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name

    def read_bytes(self) -> bytes:
        """Return `content`."""
        return self.content


def read_source(source: AudioSource) -> bytes:
    """Read all bytes of a source, at least one.

    Raises:
        DataError: a file that is missing, no file, too large or without a permission; or there are no bytes, or those
            of a pointer of Git LFS.
    """
    if isinstance(source, Path):
        content = read_file(source, "an audio file; add it, or remove it from the list", most=MOST_BYTES)
    else:
        content = source.read_bytes()
    if not content:
        raise DataError(f"{source}: empty file (0 bytes), expected audio; get it again")
    refuse_lfs_pointer(source, content[:64])
    return content
