"""Splits and shards by the names of Parquet files."""

from pathlib import Path, PurePath

import pytest

from audiomos_cache.dataset.parquet_files import find_parquet, split_of
from audiomos_cache.errors import DataError


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/validation-00001-of-00002.parquet", "dev"),
        ("data/test-00000-of-00001-a09b74b3ef9c3b56.parquet", "test"),
        ("eval-00000-of-00001.parquet", "eval"),
        ("train.parquet", "train"),
        ("val.parquet", "dev"),
        ("Valid.parquet", "dev"),
        ("default/train/0000.parquet", "train"),
        ("default/validation/part-00000-of-00003.parquet", "dev"),
        ("train/test.parquet", "test"),  # the file's own name goes first
        ("train/of/x.parquet", "train"),
        ("train.clean.100-00000-of-00001.parquet", "train.clean.100"),
        ("held_out-00000-of-00001.parquet", "held_out"),
        ("clean_test.parquet", "test"),
        ("test-file.parquet", "test"),
        ("testfile.parquet", "all"),
        ("train.parquet/part-00000.parquet", "train"),  # a folder, as Spark and Dask write it
        ("clean_val.parquet/part-00000-0b6ef8a4-9c1d.c000.snappy.parquet", "dev"),
        ("test/music.parquet/part.0.parquet", "test"),
        ("music.parquet/train.parquet", "train"),
        ("0000.parquet", "all"),
        ("music.parquet", "all"),
    ],
)
def test_the_split_of_a_file(file: str, split: str) -> None:
    assert split_of(PurePath(file)) == split


def test_files_are_found_in_order_but_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.parquet", "data/a.parquet", ".cache/c.parquet", "data/.d.parquet", "data/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_parquet(tmp_path) == [tmp_path / "b.parquet", tmp_path / "data/a.parquet"]


def test_a_folder_that_is_called_like_a_file_is_its_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"train.parquet/part-{number:05d}.parquet" for number in range(2)]
    parts[0].parent.mkdir()
    for part in parts:
        part.touch()
    (tmp_path / "gone.parquet").symlink_to("nowhere")  # and what is no folder is no part that one may leave out
    assert find_parquet(tmp_path) == [tmp_path / "gone.parquet", *parts]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    for number in (0, 2):
        (tmp_path / f"train-{number:05d}-of-00003.parquet").touch()
    with pytest.raises(DataError) as caught:
        find_parquet(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: found 2 of the 3 files train-*-of-00003.parquet, expected all; get number 00001"
    )
    (tmp_path / "train-00001-of-00003.parquet").touch()
    assert len(find_parquet(tmp_path)) == 3
