"""Which audio the row of a manifest names, wherever the manifest was written; nothing outside of a folder."""

from pathlib import Path, PurePath, PureWindowsPath
from typing import cast

from audiomos_cache.dataset.clip import ClipAudio, inside
from audiomos_cache.dataset.columns import AUDIO, Row
from audiomos_cache.dataset.tables import string_of
from audiomos_cache.errors import DataError
from audiomos_cache.files import exists, is_folder


def audio_folder(manifest: Path, audio_root: Path | None) -> Path:
    """Return the folder that a manifest's paths are relative to.

    Raises:
        DataError: the one that was given does not exist.
    """
    if audio_root is not None and not is_folder(audio_root):
        raise DataError(f"--audio-root {audio_root}: folder not found, expected the one that the audio is in")
    return audio_root or manifest.parent


def embedded_audio(row: Row) -> ClipAudio | None:
    """Return the audio that is in a row of a Parquet file; None: the row names a file."""
    return cast(ClipAudio | None, row.get(AUDIO))


def find_audio(root: Path, row: Row) -> ClipAudio:
    """Return the audio of a manifest's row: a row of a Parquet file, or a file that it names.

    A path is relative to `root`, or absolute and in it. A backslash separates folders, as on Windows, unless there is a
    file with that very name.

    Raises:
        DataError: the row names none, or one outside of `root`, or by an absolute path of Windows.
    """
    if (embedded := embedded_audio(row)) is not None:
        return embedded
    name = path_of(row)
    windows = PureWindowsPath(name)
    if windows.drive or name.startswith("\\"):
        raise DataError(
            f"{name!r} leaves the folder: an absolute path of Windows, expected one relative to {root.absolute()}, "
            f"such as {windows.name!r}; write it so, with the folders in there that it is in"
        )
    if Path(name).is_absolute():
        if _is_in(Path(name), root):
            return Path(name)
        raise DataError(
            f"{name!r} leaves the folder, expected a file inside {root.absolute()}; "
            f"to allow it, give --audio-root {str(Path(name).parent)!r}, or a folder above"
        )
    path = inside(root, name)
    return path if "\\" not in name or exists(path) else inside(root, name.replace("\\", "/"))


def file_name_of(row: Row) -> str:
    """Return the name of the audio file of a manifest's row, whichever system's separators its path has.

    Returns:
        The name; of embedded audio with an id, it may be empty.
    Raises:
        DataError: the row names none.
    """
    if (embedded := embedded_audio(row)) is not None:
        if not embedded.name and not string_of(row, "id"):
            raise DataError("found neither an id nor the name of an audio file, expected one of them; add a column id")
        return embedded.name
    return PurePath(path_of(row).replace("\\", "/")).name


def path_of(row: Row) -> str:
    """Return the path of a row's audio, as it is written.

    Raises:
        DataError: there is none.
    """
    name = string_of(row, "path")
    if not name and AUDIO in row:
        raise DataError("found neither the bytes of its audio nor a path, expected one of them")
    if not name:
        raise DataError("found no path, expected one relative to the manifest's folder")
    return name


def _is_in(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of symlinks, a NUL
        return False
