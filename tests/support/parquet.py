"""Parquet files as `datasets` writes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from audiomos_cache.dataset.clip import Clip

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # the feature `Audio`

Audio = Mapping[str, bytes | str | None]


def write_parquet(path: Path, audio: Sequence[Audio | None], *, rows_per_group: int = 3, **columns: Any) -> Path:
    """Write the audio of some clips, and columns; blanks in their names are given as `__`."""
    others = {name.replace("__", " "): values for name, values in columns.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"audio": pa.array(audio, AUDIO), **others})
    parquet.write_table(table, path, row_group_size=rows_per_group)
    return path


def write_hub_split(path: Path, clips: Sequence[Clip], **columns: Any) -> Path:
    """Write clips as MusicEval is on the hub, which has no column of prompts, and further columns."""
    audio: list[Audio] = [{"bytes": clip.path.read_bytes(), "path": f"{clip.id}.wav"} for clip in clips]
    mi, ta = [clip.mi for clip in clips], [clip.ta for clip in clips]
    return write_parquet(path, audio, overall__quality=mi, textual__alignment=ta, **columns)
