"""What a cache holds, as plain values for a table or a script."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.cache.file import CacheFile
from audiomos_cache.cache.publish import split_and_parts
from audiomos_cache.cache.reader import open_cache
from audiomos_cache.cache.store import require_names, split_names


def describe_cache(cache: Path) -> dict[str, Any]:
    """Describe every split of a cache, finished or not.

    Returns:
        `fingerprint`, `fingerprint_fields`, `encoders`, `layers`, and per split its counts, hours, bytes, files and
        skipped clips, with `complete` and `of`, the number of clips in the dataset's list.
    Raises:
        CacheError: the folder holds no split, a damaged file, or splits of different fingerprints.
    """
    names = require_names(cache)
    finished = open_cache(cache) if split_names(cache) else {}
    files = {name: finished[name].files if name in finished else split_and_parts(cache, name) for name in names}
    first = files[names[0]][0]
    for file in (file for own in files.values() for file in own):
        file.header.fingerprint.require(first.header.fingerprint, str(file.path), "extract both again")
    return {
        "cache": str(cache),
        "fingerprint": first.header.fingerprint.digest,
        "fingerprint_fields": first.header.fingerprint.fields,
        "encoders": first.header.provenance,
        "layers": list(first.header.layers),
        "splits": {name: _describe_split(own, complete=name in finished) for name, own in files.items()},
    }


def _describe_split(files: Sequence[CacheFile], *, complete: bool) -> dict[str, Any]:
    done = {clip_id for file in files for clip_id in file.ids}
    skipped = {clip_id: reason for file in files for clip_id, reason in file.header.skipped if clip_id not in done}
    return {
        "complete": complete,
        "clips": sum(map(len, files)),
        "of": files[0].header.list_length,
        "systems": len({system for file in files for system in file.systems}),
        "prompts": len({prompt for file in files for prompt in file.prompts}),
        "hours": float(sum(file.column("clips/duration_s").sum() for file in files)) / 3600,
        "labelled": sum(int(np.isfinite(file.column("clips/mi")).sum()) for file in files),
        "skipped": [list(pair) for pair in skipped.items()],
        "files": [str(file.path) for file in files],
        "bytes": sum(file.path.stat().st_size for file in files),
    }
