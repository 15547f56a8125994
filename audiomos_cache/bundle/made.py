"""A bundle that was written, of runs or of a published head."""

import logging
import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiomos_cache.artifacts import refuse_occupied
from audiomos_cache.bundle.entries import HEADS, EncoderEntry, is_head_file
from audiomos_cache.bundle.manifest import CARD, ENCODER_FILES, FORMAT, FUSION, MANIFEST, AnyManifest, PublishedManifest
from audiomos_cache.errors import BundleError, OutputExistsError, escaped, quoted, shown
from audiomos_cache.files import read_file
from audiomos_cache.progress import counted, gigabytes

if TYPE_CHECKING:
    from audiomos_cache.scoring.check_report import Check


log = logging.getLogger(__name__)


_OWN = (MANIFEST, FUSION, CARD, f"{HEADS}/", *ENCODER_FILES)
_OF_OURS = re.compile(rf"^format: ['\"]?{FORMAT}['\"]?\s*$", re.MULTILINE)
_HEAD_FILES = re.compile(rf"{HEADS}/[\w+-][\w.+-]*\.safetensors")
_MOST_BYTES = 1 << 20  # of bundle.yaml


def refuse_replacing(out: Path, *, overwrite: bool) -> None:
    """Refuse to make a bundle where anything is that is not a part of a bundle of ours; see `refuse_occupied`.

    A bundle that is damaged may be replaced: its `bundle.yaml` is read as text.

    Raises:
        OutputExistsError: something is there that would be lost; names it.
    """
    path = out / MANIFEST
    text = ""
    if os.path.lexists(path):
        with suppress(BundleError):
            text = read_file(path, "a bundle's content", BundleError, _MOST_BYTES).decode(errors="replace")
        if not _OF_OURS.search(text):
            raise OutputExistsError(
                f"{path}: its format is not {quoted(FORMAT)}, so it is of something else and would be lost; give "
                "another --out"
            )
    listed = {*_HEAD_FILES.findall(text)}

    def is_part(name: str) -> bool:
        return name in listed if is_head_file(name) else name in _OWN

    refuse_occupied(out, what="bundle", own=is_part, marker=MANIFEST, overwrite=overwrite)


def warn_of_local_encoders(encoders: Mapping[str, EncoderEntry]) -> None:
    """Warn of encoders, by their kind, that were folders of this machine."""
    for kind, encoder in encoders.items():
        if encoder.revision == "local":
            log.warning(
                "the %s encoder was the folder %s, which others do not have: they need --%s-encoder with its weights",
                kind,
                encoder.source,
                kind,
            )


@dataclass(frozen=True)
class MadeBundle:
    """A bundle that was written.

    Attributes:
        folder: what was written.
        manifest: the content of its `bundle.yaml`.
        digest: of all that its `bundle.yaml` contains, which identifies it.
        size_bytes: of all its files.
        check: what its scores do when music gets worse; or why that is not known, "" if nobody asked.
    """

    folder: Path
    manifest: AnyManifest
    digest: str
    size_bytes: int
    check: "Check | str" = ""

    def lines(self) -> list[str]:
        """Return what it is made of, its digest, how well its intervals cover, its check, and how to publish it."""
        manifest, name = self.manifest, shown(str(self.folder))
        if isinstance(manifest, PublishedManifest):
            encoder = manifest.encoders.audio
            lines = [
                f"{name}: the published head {manifest.published.name}, {gigabytes(self.size_bytes)}",
                f"targets: {', '.join(each.name for each in manifest.targets)}",
                f"encoder: {encoder.name} ({encoder.source}, {encoder.revision})",
                f"licence: {manifest.licence.notice}",
                f"digest: {self.digest}",
            ]
        else:
            names = [member.name for member in manifest.members]
            lines = [
                f"{name}: {manifest.fusion.method} of {counted(len(names), 'head')}, {gigabytes(self.size_bytes)}",
                f"heads: {', '.join(names)}",
                f"digest: {self.digest}",
                *(manifest.intervals.lines() if manifest.intervals else []),
            ]
        if isinstance(self.check, str):
            lines += [f"not checked: {self.check}"] if self.check else []
        else:
            lines.append(f"check: {self.check.verdict()}")
        return [*lines, self._publish()]

    def _publish(self) -> str:
        """Return the command that uploads the folder to the hub, as a line."""
        path = str(self.folder)
        quoted_path = shlex.quote(f"./{path}" if path.startswith("-") else path)
        return f"publish: hf upload OWNER/NAME {escaped(quoted_path)}"

    def __repr__(self) -> str:
        return "\n  ".join(["MadeBundle", *self.lines()])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the folder, its digest and size, the content of its `bundle.yaml`, and its check."""
        return {
            "folder": str(self.folder),
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "manifest": self.manifest.model_dump(mode="json"),
            "check": self.check if isinstance(self.check, str) else self.check.to_dict(),
        }
