"""Features of a dataset in Parquet are those of the same clips in MusicEval's folders."""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from audiomos_cache import extract
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.errors import ArgumentError, CacheError, DataError
from audiomos_cache.testing.music import make_dataset
from tests.support.parquet import write_hub_split, write_parquet

TINY: dict[str, Any] = {"audio_encoder": "muq-tiny", "text_encoder": "roberta-tiny", "device": "cpu"}
SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("music") / "data", prompts=3, seconds=(0.5, 1.0))


@pytest.fixture(scope="module")
def hub(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips as the hub has them, with MusicEval's lists of prompts."""
    folder = tmp_path_factory.mktemp("hub")
    dataset = load_dataset(data)
    for split, theirs in SPLITS.items():
        clips = dataset[split]
        for number, part in enumerate((clips[:2], clips[2:])):
            write_hub_split(folder / f"data/{theirs}-{number:05d}-of-00002.parquet", part)
    for name in ("prompt_info.txt", "demo_prompt_info.txt"):
        shutil.copy(data / name, folder)
    return folder


@pytest.mark.parametrize("pad_to", [1.0, None], ids=["padded", "own length"])
def test_the_same_files_byte_for_byte(data: Path, hub: Path, tmp_path: Path, pad_to: float | None) -> None:
    extract(data, tmp_path / "files", split=list(SPLITS), pad_to=pad_to, batch_size=2, **TINY)
    result = extract(hub, tmp_path / "parquet", pad_to=pad_to, batch_size=2, **TINY)
    assert list(result.splits) == list(SPLITS)
    for split in SPLITS:
        one, other = (CacheReader(tmp_path / name, split) for name in ("files", "parquet"))
        assert one.ids == other.ids and len(one) > 2
        for index in range(len(one)):
            np.testing.assert_array_equal(one.read_frames(index), other.read_frames(index))
            first, second = one.clip(index), other.clip(index)
            assert (first.mi, first.ta, first.prompt, first.system) == (
                second.mi,
                second.ta,
                second.prompt,
                second.system,
            )
        assert (tmp_path / f"files/{split}.h5").read_bytes() == (tmp_path / f"parquet/{split}.h5").read_bytes()


def test_it_goes_on_and_sees_what_changed(data: Path, tmp_path: Path) -> None:
    clips = load_dataset(data)["dev"]
    path = write_hub_split(tmp_path / "dev.parquet", clips, prompt=["x"] * len(clips))
    options = {"cache": tmp_path / "cache", "pad_to": 1.0, **TINY}
    assert extract(path, **options).splits["dev"].encoded == len(clips)
    write_hub_split(path, clips, prompt=["x"] * len(clips))  # touched, the same
    assert extract(path, **options).splits["dev"].encoded == 0
    audio = [{"bytes": clips[0].path.read_bytes(), "path": f"{clip.id}.wav"} for clip in clips]
    scores = {"mi": [clip.mi for clip in clips], "ta": [clip.ta for clip in clips]}
    write_parquet(path, audio, prompt=["x"] * len(clips), **scores)
    with pytest.raises(CacheError, match=rf"was extracted before the dataset changed: {clips[1].id} \(audio\), "):
        extract(path, **options)


def test_the_revision_of_a_dataset_on_the_hub_is_recorded(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshots/0123abc"
    shutil.copytree(hub, snapshot)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda _name, **_options: str(snapshot))
    monkeypatch.chdir(tmp_path)
    extract("BAAI/MusicEval@main", "cache", split="dev", pad_to=1.0, **TINY)
    recorded = CacheReader(tmp_path / "cache", "dev").provenance["dataset"]
    assert recorded == {"source": "BAAI/MusicEval", "revision": "0123abc"}


def test_a_row_that_cannot_be_decoded(data: Path, tmp_path: Path) -> None:
    clip = load_dataset(data)["dev"][0]
    audio = [{"bytes": clip.path.read_bytes(), "path": "a.wav"}, {"bytes": b"no audio", "path": "b.wav"}]
    path = write_parquet(tmp_path / "m.parquet", [*audio, {"bytes": b"", "path": "c.wav"}], prompt=["x"] * 3)
    with pytest.raises(DataError, match=r"m\.parquet, row 2 \(b\.wav\): not audio, or damaged"):
        extract(path, tmp_path / "stop", pad_to=None, **TINY)
    result = extract(path, tmp_path / "skip", pad_to=None, on_error="skip", **TINY)
    assert {clip_id: reason.split(": ")[-1][:9] for clip_id, reason in result.skipped.items()} == {
        "b": "not audio",
        "c": "empty fil",
    }


def test_arguments(data: Path, hub: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"^columns is 'quality', expected one of audio, path, prompt, id, system, "
    ):
        extract(hub, tmp_path / "cache", columns={"quality": "mi"}, **TINY)
    with pytest.raises(ArgumentError, match=r"^columns has 3 for mi, expected the name of a column$"):
        extract(hub, tmp_path / "cache", columns={"mi": 3}, **TINY)
    with pytest.raises(ArgumentError, match=r"^--audio-root goes with a manifest or Parquet"):
        extract(data, tmp_path / "cache", audio_root=data, **TINY)
    with pytest.raises(DataError, match=r"found the columns audio, .*, expected q; name them with --columns$"):
        extract(hub, tmp_path / "cache", columns={"mi": "q"}, **TINY)
    assert not (tmp_path / "cache").exists()
