"""What a scorer is asked to score with, checked before anything is loaded, torch too."""

import logging
import os
from collections.abc import Sequence
from numbers import Integral
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypeAlias

from audiomos_cache.devices import MOST_AT_ONCE
from audiomos_cache.errors import ArgumentError, quoted
from audiomos_cache.files import is_folder
from audiomos_cache.published.catalogue import find_revision

if TYPE_CHECKING:
    from audiomos_cache.bundle.bundle import Bundle

    BundleLike: TypeAlias = str | PathLike[str] | Bundle

log = logging.getLogger(__name__)


def listed_bundles(bundle: Any) -> "list[BundleLike]":
    """List what may be one bundle or several.

    Raises:
        ArgumentError: it is neither, there is none, or one is given twice.
    """
    several = isinstance(bundle, Sequence) and not isinstance(bundle, str | PathLike | bytes | bytearray | memoryview)
    asked = list(bundle) if several else [bundle]
    if not asked:
        raise ArgumentError("bundle is an empty list, expected a bundle or several")
    for each in asked:
        if not _is_place(each) and not _is_loaded(each):
            where = "bundle holds" if several else "bundle is"
            raise ArgumentError(
                f"{where} {_described(each)}, expected a folder, a hub id, the name of a published bundle, a loaded "
                "bundle, or several of these in a list"
            )
    known: dict[str, str] = {}
    for place in [fspath(each) for each in asked if isinstance(each, str | PathLike)]:
        if (meaning := _meaning(place)) in known:
            again = "" if known[meaning] == place else f", as {quoted(known[meaning])}"
            raise ArgumentError(f"bundle {quoted(place)}: given twice{again}; give each bundle once")
        known[meaning] = place
    return asked


def check_batch_size(batch_size: object) -> None:
    """Refuse what is no number of windows to encode at once.

    Raises:
        ArgumentError: it is no whole number, or out of range.
    """
    is_whole = isinstance(batch_size, Integral) and not isinstance(batch_size, bool)
    if batch_size is not None and not (is_whole and 1 <= int(batch_size) <= MOST_AT_ONCE):  # type: ignore[call-overload]
        raise ArgumentError(f"batch_size is {quoted(batch_size)}, expected a whole number from 1 to {MOST_AT_ONCE}")


def check_encoder(name: str, encoder: object, method: str) -> None:
    """Refuse what can be no encoder.

    Args:
        name: of the argument.
        encoder: what was given.
        method: which an encoder of this kind has.
    Raises:
        ArgumentError: it is neither a folder or a hub id, nor an encoder.
    """
    is_loaded = not isinstance(encoder, str) and callable(getattr(encoder, method, None))
    if encoder is not None and not _is_place(encoder) and not is_loaded:
        raise ArgumentError(f"{name} is {_described(encoder)}, expected a folder, a hub id, or a loaded encoder")


def warn_of_unused_text(text_encoder: object, bundles: "Sequence[Bundle]") -> None:
    """Warn of a text encoder that no bundle takes."""
    if text_encoder is not None and not any(bundle.text_encoder for bundle in bundles):
        names = ", ".join(quoted(bundle.name) for bundle in bundles)
        log.warning("the text encoder is not used: %s %s no prompts", names, "hears" if len(bundles) == 1 else "hear")


def _is_place(given: object) -> bool:
    return isinstance(given, str | PathLike) and isinstance(found := fspath(given), str) and found != ""


def _is_loaded(given: object) -> bool:
    if given is None or isinstance(given, str | PathLike | bytes | int | float | Sequence):
        return False
    from audiomos_cache.bundle.bundle import Bundle

    return isinstance(given, Bundle)


def _described(given: object) -> str:
    plain = given is None or isinstance(given, str | bytes | int | float | list | tuple | dict | PathLike)
    return quoted(given) if plain else f"a {type(given).__name__}"


def _meaning(place: str) -> str:
    """Return what is the same for two ways to name a bundle."""
    entry, revision = find_revision(place)
    if entry is not None:
        return f"{entry.name}@{revision}" if revision else entry.name
    return os.path.realpath(place) if is_folder(place) else place
