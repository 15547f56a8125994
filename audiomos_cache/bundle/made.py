"""A bundle that was written, of runs or of a published head."""

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiomos_cache.bundle.entries import HEADS, EncoderEntry, is_head_file
from audiomos_cache.bundle.manifest import CARD, ENCODER_FILES, FUSION, MANIFEST, AnyManifest, PublishedManifest
from audiomos_cache.progress import counted, gigabytes

if TYPE_CHECKING:
    from audiomos_cache.scoring.check_report import Check


log = logging.getLogger(__name__)


def is_own_file(name: str) -> bool:
    """Return whether a bundle may have a file of this path."""
    return name in (MANIFEST, FUSION, CARD, f"{HEADS}/", *ENCODER_FILES) or is_head_file(name)


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
        manifest = self.manifest
        if isinstance(manifest, PublishedManifest):
            encoder = manifest.encoders.audio
            lines = [
                f"{self.folder}: the published head {manifest.published.name}, {gigabytes(self.size_bytes)}",
                f"targets: {', '.join(each.name for each in manifest.targets)}",
                f"encoder: {encoder.name} ({encoder.source}, {encoder.revision})",
                f"licence: {manifest.licence.notice}",
                f"digest: {self.digest}",
            ]
        else:
            names = [member.name for member in manifest.members]
            lines = [
                f"{self.folder}: {manifest.fusion.method} of {counted(len(names), 'head')}, "
                f"{gigabytes(self.size_bytes)}",
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
        return f"publish: hf upload OWNER/NAME {shlex.quote(f'./{path}' if path.startswith('-') else path)}"

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
