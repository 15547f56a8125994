"""The names of Parquet files, as Hugging Face's `datasets` writes them: `data/train-00000-of-00002.parquet`."""

import re
from pathlib import Path, PurePath

from audiomos_cache.dataset.clip import NO_SPLIT, USUAL_SPLITS
from audiomos_cache.errors import DataError

_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{16})?")


def split_of(file: PurePath) -> str:
    """Return the split of a Parquet file, by our names: `dev` of `data/validation-00000-of-00001.parquet`.

    Args:
        file: its path in the dataset's folder. To Spark and Dask, a folder that is called `train.parquet` is a file.
    Returns:
        What the file is called, or a folder, the nearest first; else what is before the numbers of a shard; else a word
        in the file's name, as in `clean_test.parquet`; else `all`.
    """
    shard = _SHARD.fullmatch(file.stem)
    own = shard["split"] if shard else file.stem
    for name in (own, *(part.removesuffix(".parquet") for part in reversed(file.parent.parts))):
        if name.lower() in USUAL_SPLITS:
            return USUAL_SPLITS[name.lower()]
    if shard:
        return own
    files = [own, *(folder.stem for folder in file.parents if folder.suffix == ".parquet")]
    words = re.findall(r"[a-z]+", " ".join(files).lower())
    return next((USUAL_SPLITS[word] for word in words if word in USUAL_SPLITS), NO_SPLIT)


def find_parquet(folder: Path) -> list[Path]:
    """Find the Parquet files of a dataset at any depth, but hidden ones, sorted.

    Raises:
        DataError: of `NAME-00000-of-00003.parquet` and so on, one is missing.
    """
    files = sorted(
        path
        for path in folder.rglob("*.parquet")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and not path.is_dir()
    )
    shards: dict[tuple[Path, str, int], set[int]] = {}
    for path in files:
        if shard := _SHARD.fullmatch(path.stem):
            shards.setdefault((path.parent, shard["split"], int(shard["count"])), set()).add(int(shard["number"]))
    for (parent, name, count), numbers in shards.items():
        if absent := sorted(set(range(count)) - numbers):
            raise DataError(
                f"{parent}: found {len(numbers)} of the {count} files {name}-*-of-{count:05d}.parquet, expected all; "
                f"get number {absent[0]:05d}"
            )
    return files
