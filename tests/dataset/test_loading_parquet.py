"""Datasets of Parquet files: in a folder, and on the Hugging Face hub."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from audiomos_cache.dataset.loading import fetch_dataset, load_dataset
from audiomos_cache.errors import ConfigError, DataError
from tests.support.parquet import Audio, write_parquet

COMMIT = "20977b8d6c1b0a9e8f7d6c5b4a39281706f5e4d3"
NAME = "audiomos2025-track1-"


def audio(*ids: str) -> list[Audio]:
    return [{"bytes": clip_id.encode(), "path": f"{clip_id}.wav"} for clip_id in ids]


def write_musiceval(folder: Path) -> Path:
    """Files as MusicEval has them on the hub: no prompts, splits by name."""
    for name, ids in (
        ("train-00000-of-00002", ("S002_P044", "S001_P002")),
        ("train-00001-of-00002", ("S003_P044",)),
        ("validation-00000-of-00001", ("S004_P002",)),
        ("test-00000-of-00001", ("S006_P044",)),
    ):
        scores: dict[str, Any] = {"overall__quality": [3.4] * len(ids), "textual__alignment": [2.6] * len(ids)}
        write_parquet(folder / f"data/{name}.parquet", audio(*(f"{NAME}{clip_id}" for clip_id in ids)), **scores)
    return folder


def write_prompts(folder: Path) -> Path:
    (folder / "prompt_info.txt").write_text("id\ttext\nP044\tslow piano\nP002\tfast drums\n")
    (folder / "demo_prompt_info.txt").write_text(f"{NAME}S001_P002.wav\ta demo\n{NAME}S006_P044.wav\tanother\n")
    return folder


def test_a_folder_of_parquet_files_with_musicevals_prompts(tmp_path: Path) -> None:
    dataset = load_dataset(write_prompts(write_musiceval(tmp_path)))
    found = {
        split: [(c.id.removeprefix(NAME), c.system, c.prompt_id, c.prompt) for c in clips]
        for split, clips in dataset.items()
    }
    assert found == {
        "train": [
            ("S002_P044", "S002", "P044", "slow piano"),
            ("S001_P002", "S001", f"{NAME}S001_P002", "a demo"),
            ("S003_P044", "S003", "P044", "slow piano"),
        ],
        "dev": [("S004_P002", "S004", "P002", "fast drums")],
        "test": [("S006_P044", "S006", f"{NAME}S006_P044", "another")],
    }
    assert {(clip.mi, clip.ta) for clips in dataset.values() for clip in clips} == {(3.4, 2.6)}
    assert dataset["train"][2].path.read_bytes() == f"{NAME}S003_P044".encode()
    assert list(load_dataset(tmp_path, ["dev"])) == ["dev"]
    [one] = load_dataset(tmp_path / "data/validation-00000-of-00001.parquet")["dev"]
    assert one == dataset["dev"][0]


def test_without_prompts_it_says_where_they_may_be(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(write_musiceval(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/data/test-00000-of-00001.parquet: found the columns audio, overall quality, textual alignment, "
        "expected prompt (or text, caption); name them with --columns, or put MusicEval's prompt_info.txt next to the "
        "file"
    )


def test_splits_of_folders_and_of_a_column(tmp_path: Path) -> None:
    write_parquet(tmp_path / "default/train/0000.parquet", audio("a"), prompt=["x"])
    write_parquet(tmp_path / "default/validation/0000.parquet", audio("b"), prompt=["x"])
    write_parquet(tmp_path / "more/0001.parquet", audio("c", "d"), prompt=["x", "x"], split=["held", None])
    dataset = load_dataset(tmp_path)
    assert {split: [clip.id for clip in clips] for split, clips in dataset.items()} == {
        "train": ["a"],
        "dev": ["b"],
        "all": ["d"],
        "held": ["c"],
    }


@pytest.mark.parametrize(
    ("file", "own", "expected"),
    [
        ("train/x_test.parquet", ["test", "test", "dev"], {"test": 2, "dev": 1}),
        ("train/part.parquet", ["all", None, "dev"], {"all": 1, "train": 1, "dev": 1}),
        ("train/x_test.parquet", [None, "", None], {"train": 3}),
    ],
)
def test_a_rows_own_split_goes_before_that_of_its_files_place(
    tmp_path: Path, file: str, own: list[str | None], expected: dict[str, int]
) -> None:
    write_parquet(tmp_path / file, audio("a", "b", "c"), prompt=["x"] * 3, split=own)
    assert {split: len(clips) for split, clips in load_dataset(tmp_path).items()} == expected


def test_a_folder_that_is_called_like_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "train.parquet"
    write_parquet(folder / "part-00000.parquet", audio("a"), prompt=["x"])
    write_parquet(folder / "part-00001.parquet", [{"bytes": None, "path": "wav/b.wav"}], prompt=["x"])
    for data in (tmp_path, folder):
        dataset = load_dataset(data)
        assert {split: [clip.id for clip in clips] for split, clips in dataset.items()} == {"train": ["a", "b"]}
        assert dataset["train"][1].path == data / "wav/b.wav"


def test_an_id_in_two_files(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_parquet(tmp_path / f"{name}.parquet", audio("a"), prompt=["x"])
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/train.parquet, row 1 (a.wav): found the id 'a' again, expected it only once, of "
        f"{tmp_path}/test.parquet, row 1 (a.wav)"
    )


def test_a_missing_shard(tmp_path: Path) -> None:
    (write_musiceval(tmp_path) / "data/train-00000-of-00002.parquet").unlink()
    with pytest.raises(
        DataError, match=r"data: found 1 of the 2 files train-\*-of-00002\.parquet, .*; get number 00000"
    ):
        load_dataset(tmp_path)


def test_a_folder_without_any_dataset(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"in it, or a manifest named metadata\.csv or metadata\.jsonl, or Parquet files$"
    ):
        load_dataset(tmp_path)


# The hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """A hub that has MusicEval; returns what is asked of it. The folder that the user is in is empty."""
    write_prompts(write_musiceval(tmp_path / "hub" / "snapshots" / COMMIT))
    (tmp_path / "hub/empty").mkdir()
    asked = []

    def snapshot_download(name: str, **options: Any) -> str:
        asked.append((name, options))
        if name == "BAAI/MusicEval":
            return str(tmp_path / "hub/snapshots" / COMMIT)
        if name == "some/audio":
            return str(tmp_path / "hub/empty")
        raise OSError("404: not there\nat all")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return asked


@pytest.mark.parametrize(("revision", "pinned"), [("", None), ("@v1", "v1"), (f"@{COMMIT}", COMMIT)])
def test_a_hub_id(hub: list[tuple[str, dict[str, Any]]], revision: str, pinned: str | None) -> None:
    folder, origin = fetch_dataset(f"BAAI/MusicEval{revision}")
    assert origin == {"source": "BAAI/MusicEval", "revision": COMMIT}
    assert list(load_dataset(folder)) == ["train", "dev", "test"]
    patterns = ["*.parquet", "*prompt_info.txt"]
    assert hub == [("BAAI/MusicEval", {"revision": pinned, "repo_type": "dataset", "allow_patterns": patterns})]


@pytest.mark.parametrize(
    "data",
    [
        "here",
        "a/b/c",
        "./BAAI/MusicEval",
        "/BAAI/MusicEval",
        "lists/m.csv",
        "lists/m.parquet",
        "local/data",
        "x y/z",
        "@/x",
    ],
)
def test_what_is_no_hub_id_is_a_path(hub: list[tuple[str, dict[str, Any]]], data: str) -> None:
    Path("local/data").mkdir(parents=True)
    assert fetch_dataset(data) == (Path(data), None)
    assert fetch_dataset("local/data@odd") == (Path("local/data@odd"), None), "next to what is there"
    assert hub == []


@pytest.mark.parametrize("name", ["n" * 6000, "n" * 6000 + "/m.csv", "n" * 6000 + ".parquet", "n/" * 3000 + "m.csv"])
def test_data_of_a_name_that_is_too_long(name: str) -> None:
    path, origin = fetch_dataset(name)
    assert (path, origin) == (Path(name), None)
    with pytest.raises(DataError, match=r"^n.*(not found|cannot be read \(File name too long\)), expected"):
        load_dataset(path)


def test_a_folder_of_that_name_goes_first(hub: list[tuple[str, dict[str, Any]]]) -> None:
    Path("BAAI/MusicEval").mkdir(parents=True)
    assert fetch_dataset("BAAI/MusicEval") == (Path("BAAI/MusicEval"), None)
    assert hub == []


def test_it_says_that_the_hub_was_not_asked(hub: list[tuple[str, dict[str, Any]]]) -> None:
    Path("BAAI").mkdir()
    for name, advice in (
        ("BAAI/MusicEval", "; the Hugging Face hub was not asked, because there is a folder BAAI here"),
        ("gone", ""),
        ("./BAAI/../BAAI/MusicEval", ""),
    ):
        path, _ = fetch_dataset(name)
        with pytest.raises(DataError) as caught:
            load_dataset(path)
        assert str(caught.value) == (
            f"{path}: not found, expected a MusicEval folder, or a manifest (.csv, .tsv, .jsonl, .parquet){advice}"
        )
    assert hub == []


@pytest.mark.usefixtures("hub")
def test_what_the_hub_does_not_have() -> None:
    with pytest.raises(DataError) as caught:
        fetch_dataset("BAAI/Nothing@v2")
    assert str(caught.value) == (
        "--data BAAI/Nothing: folder not found, and cannot be fetched from the Hugging Face hub (OSError: 404: not "
        "there at all). On a machine with a network run `hf download --repo-type dataset BAAI/Nothing --revision v2 "
        "--local-dir FOLDER`, copy the folder here, and give --data its path"
    )
    with pytest.raises(DataError) as caught:
        fetch_dataset("some/audio")  # into a folder: the hub's cache holds links, which lead out of it
    assert str(caught.value) == (
        "--data some/audio: found no Parquet file in the dataset on the hub, expected some; fetch it with `hf download "
        "--repo-type dataset some/audio --local-dir FOLDER`, and give --data its manifest"
    )
    with pytest.raises(ConfigError, match="found no revision after the @"):
        fetch_dataset("BAAI/MusicEval@")


def test_a_warm_cache_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, offline, with a cache folder as it lays one out."""
    repository = tmp_path / "cache/datasets--BAAI--MusicEval"
    write_prompts(write_musiceval(repository / "snapshots" / COMMIT))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    folder, origin = fetch_dataset("BAAI/MusicEval")
    assert origin == {"source": "BAAI/MusicEval", "revision": COMMIT}
    assert len(load_dataset(folder)["train"]) == 3
    with pytest.raises(
        DataError, match=r"^--data BAAI/Other: folder not found, and cannot be fetched from the Hugging"
    ):
        fetch_dataset("BAAI/Other")
