"""What a cache holds, as plain values for a table or a script."""

from pathlib import Path
from typing import Any

import numpy as np

from audiomos_cache.cache.reader import CacheReader, open_cache


def describe_cache(cache: Path) -> dict[str, Any]:
    """Describe every finished split of a cache.

    Returns:
        `fingerprint`, `fingerprint_fields`, `encoders`, and per split its counts, hours, bytes, files, skipped clips.
    Raises:
        CacheError: the folder holds no finished split, a damaged file, or splits of different fingerprints.
    """
    readers = open_cache(cache)
    first = next(iter(readers.values()))
    return {
        "cache": str(cache),
        "fingerprint": first.fingerprint.digest,
        "fingerprint_fields": first.fingerprint.fields,
        "encoders": first.provenance,
        "splits": {name: _describe_split(reader) for name, reader in readers.items()},
    }


def _describe_split(reader: CacheReader) -> dict[str, Any]:
    durations = [file.arrays["clips/duration_s"].sum() for file in reader.files]
    return {
        "clips": len(reader),
        "systems": len(set(reader.systems)),
        "prompts": len({prompt for file in reader.files for prompt in file.prompts}),
        "hours": float(sum(durations)) / 3600,
        "labelled": int(np.isfinite(reader.mi).sum()),
        "skipped": [list(pair) for pair in reader.skipped],
        "files": [str(file.path) for file in reader.files],
        "bytes": sum(file.path.stat().st_size for file in reader.files),
    }
