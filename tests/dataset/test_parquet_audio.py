"""The audio in Parquet: what is read is the row's own, whatever the order and the number of threads."""

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audiomos_cache.dataset import parquet_audio
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.dataset.parquet_audio import ParquetAudio
from audiomos_cache.errors import DataError
from tests.support.parquet import write_parquet

CONTENT = [bytes([n]) * (n * 37 % 101 + 1) for n in range(50)]


def sources(folder: Path, rows_per_group: int = 7) -> list[ParquetAudio]:
    audio = [{"bytes": content, "path": f"{n}.wav"} for n, content in enumerate(CONTENT)]
    path = write_parquet(folder / "m.parquet", audio, rows_per_group=rows_per_group, prompt=["x"] * 50)
    clips = [clip.path for clip in load_dataset(path)["all"]]
    assert all(isinstance(source, ParquetAudio) for source in clips)
    return clips


@pytest.fixture(params=[1, 200, 1 << 24], ids=["a row", "some rows", "all rows"])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much is decoded at once."""
    monkeypatch.setattr(parquet_audio, "_BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("block_bytes")
@pytest.mark.parametrize("rows_per_group", [1, 7, 50])
def test_every_row_in_any_order(tmp_path: Path, rows_per_group: int) -> None:
    audio = sources(tmp_path, rows_per_group)
    assert [source.read_bytes() for source in audio] == CONTENT
    order = random.Random(0).sample(range(50), 50)
    assert [audio[n].read_bytes() for n in order] == [CONTENT[n] for n in order]


@pytest.mark.usefixtures("block_bytes")
def test_several_threads(tmp_path: Path) -> None:
    audio = sources(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ParquetAudio.read_bytes, audio * 4)) == CONTENT * 4


def test_only_some_rows_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_audio, "_BLOCK_BYTES", 200)
    most = []
    reader_block = parquet_audio._Reader._block

    def count(self: parquet_audio._Reader, group: int, index: int) -> object:
        found = reader_block(self, group, index)
        most.append(sum(len(block) for _, _, block in self._recent))
        return found

    monkeypatch.setattr(parquet_audio._Reader, "_block", count)
    assert [source.read_bytes() for source in sources(tmp_path, 50)] == CONTENT
    assert 0 < max(most) <= 4 * 5


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    audio = sources(tmp_path)
    assert [source.read_bytes() for source in pickle.loads(pickle.dumps(audio))] == CONTENT


def test_how_it_is_named(tmp_path: Path) -> None:
    audio = sources(tmp_path)
    assert (str(audio[8]), audio[8].name) == (f"{tmp_path}/m.parquet, row 9 (8.wav)", "8.wav")


def test_a_file_that_was_changed_or_is_gone(tmp_path: Path) -> None:
    audio = sources(tmp_path)
    write_parquet(tmp_path / "m.parquet", [{"bytes": b"other", "path": "other.wav"}], prompt=["x"])
    with pytest.raises(DataError) as caught:
        audio[0].read_bytes()
    assert str(caught.value) == (
        f"{tmp_path}/m.parquet, row 1 (0.wav): the file was changed after its rows were listed; start again to read "
        "the new one"
    )
    (tmp_path / "m.parquet").unlink()
    assert not audio[0].exists()
    with pytest.raises(DataError, match=r"m\.parquet, row 1 \(0\.wav\): file not found; add it again$"):
        audio[0].read_bytes()
