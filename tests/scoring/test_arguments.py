"""Clips, prompts and ids in whatever holds them; what cannot be told is refused before anything is scored."""

import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audiomos_cache.audio.decode import Audio
from audiomos_cache.errors import DataError
from audiomos_cache.scoring.arguments import items_of_arguments, items_of_stream
from audiomos_cache.scoring.inputs import Item

NOISE = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
PATHS = ["b.wav", "a.wav", "c.mp3"]


class Series:
    """A column of a table, as pandas has it: labels of its own, which are not the rows' numbers."""

    ndim = 1

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self.dtype = np.dtype(object)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __getitem__(self, label: object) -> Any:
        raise KeyError(label)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array(self._values, dtype or object)


class NAType:
    """As pandas' missing value: nothing can be asked of it."""

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


def items(audio: Any, prompts: Any = None, ids: Any = None, rate: Any = None) -> list[Item]:
    return list(items_of_arguments(audio, prompts, ids, rate))


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        deque,
        np.array,
        lambda paths: dict(enumerate(paths)).values(),
        lambda paths: np.array(paths, object),
        Series,
    ],
)
def test_sequences_of_paths_and_of_prompts(kind: Any) -> None:
    prompts = ["one", "", "three"]
    assert items(kind(PATHS), kind(prompts)) == [
        Item("b", Path("b.wav"), "one"),
        Item("a", Path("a.wav"), ""),
        Item("c.mp3", Path("c.mp3"), "three"),
    ]
    assert [item.id for item in items(kind(PATHS), ids=kind(["x", "y", "z"]))] == ["x", "y", "z"]
    assert {type(item.prompt) for item in items(kind(PATHS), kind(prompts), kind(["x", "y", "z"]))} == {str}


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), NAType()])
def test_a_table_may_have_no_prompt_for_a_clip(missing: Any) -> None:
    assert [item.prompt for item in items(PATHS[:2], Series([missing, "two"]))] == [None, "two"]
    assert [item.prompt for item in items_of_stream([("a.wav", missing)], None)] == [None]


def test_an_array_of_clips_of_several_kinds() -> None:
    audio = np.empty(2, object)
    audio[:] = [NOISE, "a.wav"]
    first, second = items(audio, rate=16000)
    assert isinstance(first.audio, Audio)
    assert (first.id, second) == ("0", Item("a", Path("a.wav")))


def test_the_name_in_a_dict_becomes_the_id_and_no_path_of_the_score() -> None:
    dicts = [{"array": NOISE, "sampling_rate": 16000, "path": "x/song.wav"}, {"bytes": b"RIFF", "path": "song.mp3"}]
    assert [(item.id, item.path) for item in items(dicts)] == [("song", None), ("song.mp3", None)]
    assert [item.id for item in items(dicts, ids=["a", "b"])] == ["a", "b"]
    assert items([{"bytes": None, "path": "x/song.wav"}]) == [Item("song", Path("x/song.wav"))]
    [bad] = items([{"array": NOISE, "sampling_rate": 44, "path": "song.wav"}])
    assert (bad.id, str(bad.audio).partition(",")[0]) == ("song", "clip song: a sample rate of 44 Hz")


SINGLE = "a single clip, expected a sequence of clips; put it in a list"


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("a.wav", f"'a.wav': {SINGLE}"),
        (Path("a.wav"), f"'a.wav': {SINGLE}"),
        (b"RIFF", f"b'RIFF': {SINGLE}"),
        (io.BytesIO(b"RIFF"), f"a BytesIO: {SINGLE}"),
        (NOISE, rf"an array of shape \(16000,\): {SINGLE}"),
        ([0.0, 0.5], f"a list: {SINGLE}"),
        (torch.zeros(2, 9), rf"an array of shape \(2, 9\): {SINGLE}"),
        ((16000, NOISE), rf"a tuple of \(int, ndarray\): {SINGLE}"),
        ((NOISE, 16000), rf"a tuple of \(ndarray, int\): {SINGLE}"),
        ({"array": NOISE, "sampling_rate": 16000}, f"a dict with 'array', 'sampling_rate': {SINGLE}"),
        ({"bytes": b"RIFF", "path": None}, f"a dict with 'bytes', 'path': {SINGLE}"),
        ({"a": "a.wav"}, "audio: found a dict with 'a', expected a sequence; give a list, or pairs "),
        ({"a.wav", "b.wav"}, "audio: found a set, which has no order, expected a sequence; give a list, or pairs "),
        (
            (path for path in PATHS),
            "audio: found a generator, which has no length, expected a sequence; give a list, or ",
        ),
        (iter(PATHS), r"audio: found a list_iterator, .*, or pairs \(clip, prompt\) to score_iter"),
        (np.array([PATHS]), r"audio: found an array of shape \(1, 3\), which is a table, expected a sequence"),
        (np.array("a.wav"), r"audio: found an array of shape \(\), which is a single value, expected a sequence"),
        (None, "audio: found None, expected a sequence"),
        (7, "audio: found 7, expected a sequence"),
    ],
)
def test_what_is_no_sequence_of_clips(audio: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        items_of_arguments(audio, "rain", None, 16000)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (b"rain", "b'rain', expected"),
        ({"rain"}, "a set, which has no order, expected"),
        (frozenset(["rain"]), "a frozenset, which has no order, expected"),
        ({"a.wav": "rain"}, "a dict with 'a.wav', expected"),
        ((prompt for prompt in ["rain"]), "a generator, which has no length, expected"),
        (np.array("rain"), r"an array of shape \(\), which is a single value, expected"),
        (np.array([["rain"]]), r"an array of shape \(1, 1\), which is a table, expected"),
        (7, "7, expected"),
    ],
)
def test_what_are_no_prompts_or_ids(given: Any, found: str) -> None:
    with pytest.raises(
        DataError, match=f"^prompts: found {found} a sequence; give a list, or one string for all clips$"
    ):
        items_of_arguments(["a.wav"], given, None, None)
    with pytest.raises(DataError, match=f"^ids: found {found} a sequence; give a list, or None$"):
        items_of_arguments(["a.wav"], None, given, None)


def test_a_string_of_ids_is_not_taken_letter_by_letter() -> None:
    with pytest.raises(DataError, match=r"^ids: found 'ab', expected a sequence; give a list, or None$"):
        items_of_arguments(["a.wav", "b.wav"], None, "ab", None)


def test_a_clip_that_cannot_be_read_keeps_its_prompt() -> None:
    [item] = items([NOISE], ["rain"], rate=44)
    assert (item.id, item.prompt, str(item.audio)) == (
        "0",
        "rain",
        "clip 0: a sample rate of 44 Hz, expected 1000 to 1000000; 44 kHz is 44000",
    )


def test_a_clip_with_a_bad_prompt_keeps_its_name() -> None:
    for found in (items(["m/a.wav"], [3]), list(items_of_stream([("m/a.wav", 3)], None))):  # type: ignore[list-item]
        [item] = found
        message = "clip a: its prompt is 3, expected a string or None"
        assert (item.id, item.path, item.prompt, str(item.problem)) == ("a", Path("m/a.wav"), None, message)
        score = item.failed(DataError(message))
        assert (score.path, score.error) == ("m/a.wav", message)
        with pytest.raises(DataError, match=f"^{message}$"):
            item.decode()


class Lazy:
    """An array that is read when it is needed, as h5py's, zarr's and dask's; of a file that is gone."""

    shape, dtype = (16000,), np.dtype(np.float32)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise OSError("Can't synchronously read data (filter returned failure)")


class Odd:
    """It fails wherever it is looked at."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(f"no {name}")

    def __iter__(self) -> Iterator[Any]:
        raise OSError("gone")


def test_whatever_a_users_object_raises_is_its_clips_error_alone() -> None:
    stream: Any = [("a.wav", None), (Lazy(), "rain"), (Odd(), None), ({"array": Lazy()}, None), Odd(), ("b.wav", None)]
    found = list(items_of_stream(stream, 16000))
    assert [item.id for item in found] == ["a", "1", "2", "3", "4", "b"]
    read = "cannot be read (OSError: Can't synchronously read data (filter returned failure))"
    errors = [str(item.audio) for item in found[1:5]]
    assert errors[0] == f"clip 1: {read}" and errors[2] == f"clip 3: {read}"
    assert errors[1].startswith("clip 2: cannot be read (LookupError: no ")
    assert errors[3].startswith("clip 4: ")
    assert found[1].prompt == "rain"
    assert [str(item.audio) for item in items([Lazy()], rate=16000)] == [f"clip 0: {read}"]


@pytest.mark.parametrize("clips", ["a.wav", b"a.wav", {"a.wav": "rain"}, None, 7])
def test_what_is_no_stream(clips: Any) -> None:
    with pytest.raises(DataError, match=r"^found .*, expected an iterable of pairs \(clip, prompt\)$"):
        items_of_stream(clips, None)


def test_a_stream_of_what_are_no_pairs() -> None:
    stream: Any = ["ab", Path("a.wav"), ("a.wav", "b", "c"), {"a": 1, "b": 2}, 7, ("a.wav", "rain"), ["b.wav", None]]
    found = list(items_of_stream(stream, None))
    assert [item.id for item in found] == ["0", "1", "2", "3", "4", "a", "b"]
    assert [str(item.audio) for item in found[:3]] == [
        "clip 0: found 'ab', expected a pair (clip, prompt)",
        "clip 1: found 'a.wav', expected a pair (clip, prompt)",
        "clip 2: found a tuple of (str, str, str), expected a pair (clip, prompt)",
    ]
    assert [type(item.audio) for item in found[3:5]] == [DataError] * 2
