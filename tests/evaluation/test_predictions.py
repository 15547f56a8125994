import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from audiomos_cache.errors import DataError, OutputError
from audiomos_cache.evaluation.predictions import (
    Predictions,
    join_ids,
    read_predictions,
    valid_rows,
    write_answer,
    write_predictions,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "fusion"


def two_clips(**changes):
    fields = {"ids": ["b", "a"], "mi": [2.0, 1.5], "ta": [4.0, 3.5], "mi_dist": [[0.1, 0.9], [0.6, 0.4]]}
    return Predictions.build(**fields | changes)


def write_lines(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def save_pt(path, **clips):
    torch.save(clips, path)
    return path


def original(mi=3.0, ta=2.0, mi_dist=None, ta_dist=None):
    return {"overall_score": mi, "textual_score": ta, "overall_dist": mi_dist, "textual_dist": ta_dist}


# Predictions.build


def test_rows_follow_their_ids_when_sorted():
    predictions = two_clips()
    assert predictions.ids == ("a", "b")
    assert predictions.mi.tolist() == [1.5, 2.0]
    assert predictions.ta.tolist() == [3.5, 4.0]
    assert predictions.mi_dist.tolist() == [[0.6, 0.4], [0.1, 0.9]]
    assert predictions.ta_dist is None
    assert predictions.mi.dtype == predictions.mi_dist.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ["a", "a"]}, "clips with more than one prediction: a"),
        ({"mi": [2.0]}, "mi of clips b, a: shape (1,), expected (2,)"),
        ({"ta": [[2.0], [3.0]]}, "ta of clips b, a: shape (2, 1), expected (2,)"),
        ({"mi_dist": [0.5, 0.5]}, "mi_dist of clips b, a: shape (2,), expected (2, bins)"),
        ({"ta_dist": [[], []]}, "ta_dist of clips b, a: shape (2, 0), expected (2, bins)"),
        ({"mi": [np.nan, 1.0]}, "mi is not a finite number for clips b"),
        ({"mi_dist": [[0.0, np.inf], [np.nan, 0.0]]}, "mi_dist is not a finite number for clips a, b"),
        (
            {"mi": [1e200, -1.1e6]},
            "mi of clips a (-1.1e+06), b (1e+200): expected a score on the scale of 1 to 5 or near it, at most 1000000",
        ),
        ({"mi_dist": [[1.0], [1.0]]}, "mi_dist of clips a (1), b (1): expected a distribution on 2 bins or more"),
        ({"ta_dist": [[1.5, -0.5], [1, 0]]}, "ta_dist of clips b (-0.5): expected a distribution, so nothing below 0"),
        ({"mi_dist": [[0.5, 0.5], [0, 0]]}, "mi_dist of clips a (0): expected a distribution, so a sum of 1"),
        ({"mi_dist": [[0.6, 0.402], [1, 0]]}, "mi_dist of clips b (1.002): expected a distribution, so a sum of 1"),
        ({"mi_dist": [[1e308, 1e308], [1, 0]]}, "mi_dist of clips b (inf): expected a distribution, so a sum of 1"),
        (
            {"ids": ["a,b", "a"]},
            "found the id 'a,b', expected a name without commas and control characters",
        ),
    ],
)
def test_build_refuses(changes, message):
    with pytest.raises(DataError) as error:
        two_clips(**changes)
    assert str(error.value) == message


def test_what_a_head_may_say_is_taken():
    """Beyond the scale, as an unbounded head does; a sum that rounding moved; a bin without mass."""
    taken = two_clips(mi=[1e6, -7.5], mi_dist=[[0.6, 0.4009], [1.0, 0.0]])
    assert taken.mi.tolist() == [-7.5, 1e6]
    assert taken.mi_dist.tolist() == [[1.0, 0.0], [0.6, 0.4009]]


def test_take_keeps_the_rows_of_some_clips_in_their_order():
    some = two_clips(ids=["c", "a"]).take(["c"])
    assert some.ids == ("c",)
    assert (some.mi.tolist(), some.ta.tolist(), some.mi_dist.tolist()) == ([2.0], [4.0], [[0.1, 0.9]])
    assert two_clips().take(["b", "a"]).mi.tolist() == [1.5, 2.0]


def test_build_refuses_no_clip():
    with pytest.raises(DataError, match="no clip has a prediction, expected at least one"):
        Predictions.build([], [], [])


def test_join_ids_gives_places_in_the_other_list():
    assert join_ids(["a", "b", "c"], ["c", "a", "b"], "x", "y") == [1, 2, 0]


def test_join_ids_names_the_first_five_and_the_count():
    with pytest.raises(DataError) as error:
        join_ids(["a", "z"], ["a", "c", "b", "d", "e", "f", "g", "a"], "x", "the list")
    assert str(error.value) == (
        "x: missing clips of the list: b, c, d, e, f, ... (6 in all); clips that are not in the list: z; "
        "clips more than once in the list: a; both must hold the same clips"
    )


# JSON Lines


def test_jsonl_keeps_every_digit(tmp_path):
    random = np.random.default_rng(0)
    dists = (random.dirichlet(np.ones(bins), 3) for bins in (20, 7))
    written = Predictions.build(["c", "a", "b"], random.normal(3, 1, 3), [0.1, 1 / 3, 5e-324], *dists)
    write_predictions(tmp_path / "p.jsonl", written)
    read = read_predictions(tmp_path / "p.jsonl")
    assert read.ids == written.ids
    for name in ("mi", "ta", "mi_dist", "ta_dist"):
        assert np.array_equal(getattr(read, name), getattr(written, name)), name


def test_jsonl_layout(tmp_path):
    write_predictions(tmp_path / "p.jsonl", two_clips())
    assert (tmp_path / "p.jsonl").read_text() == (
        '{"id": "a", "mi": 1.5, "ta": 3.5, "mi_dist": [0.6, 0.4]}\n'
        '{"id": "b", "mi": 2.0, "ta": 4.0, "mi_dist": [0.1, 0.9]}\n'
    )


GOOD = {"id": "a", "mi": 3.0, "ta": 2}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "b", "mi"\n', "not a line of JSON: Expecting ':' delimiter: line 2 column 1 (char 17)"),
        (b"\xff\n".decode("latin1"), "not a line of JSON"),
        ("[" * 100_000 + "\n", "not a line of JSON"),
        ([1], "[1], expected an object with id, mi and ta"),
        (GOOD | {"id": 7}, "id is 7, expected a clip id"),
        (GOOD | {"id": ""}, "found the id '', expected a name"),
        (GOOD | {"id": "x,y"}, "found the id 'x,y', expected a name without commas and control characters"),
        (GOOD | {"id": "x\ny,1,2"}, "found the id 'x\\ny,1,2', expected a name without commas and control characters"),
        ({"mi": 3.0, "ta": 2.0}, "id is None, expected a clip id"),
        ({"id": "b", "mi": 3.0}, "ta is None, expected a finite number"),
        (GOOD | {"mi": "3"}, "mi is '3', expected a finite number"),
        (GOOD | {"mi": True}, "mi is True, expected a finite number"),
        ('{"id": "b", "mi": NaN, "ta": 2}\n', "not a line of JSON: found NaN, expected a number that JSON has"),
        ('{"id": "b", "mi": 1e999, "ta": 2}\n', "not a line of JSON: found 1e999, expected a number"),
        (GOOD | {"mi": 10**400}, "expected a finite number"),
        (GOOD | {"ta_dist": []}, "ta_dist is [], expected a list of finite numbers"),
        (GOOD | {"ta_dist": [0.5, None]}, "ta_dist is [0.5, None], expected a list of finite numbers"),
        (GOOD | {"mi_dists": [1]}, "unknown key 'mi_dists', expected only id, mi, ta, mi_dist, ta_dist"),
        (
            GOOD | {"mi_dist": [1]},
            "bins are {'mi_dist': 1, 'ta_dist': None}, "
            "expected {'mi_dist': None, 'ta_dist': None} as for the first clip",
        ),
    ],
)
def test_jsonl_refuses_a_bad_line_by_number(tmp_path, line, message):
    path = write_lines(tmp_path / "p.jsonl", GOOD, "\n", line)
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([GOOD, GOOD], "clips with more than one prediction: a"), ([], "no clip has a prediction")],
)
def test_jsonl_refuses_a_bad_list(tmp_path, rows, message):
    path = write_lines(tmp_path / "p.jsonl", *rows)
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        read_predictions(path)


def test_ids_lose_wav_as_those_of_lists_do(tmp_path):
    path = write_lines(tmp_path / "p.jsonl", GOOD | {"id": "b.x.wav"}, GOOD)
    assert read_predictions(path).ids == ("a", "b.x")
    path = write_lines(tmp_path / "p.jsonl", GOOD | {"id": "a.wav"}, GOOD)
    with pytest.raises(DataError, match=r"p\.jsonl: clips with more than one prediction: a$"):
        read_predictions(path)


def test_values_that_no_head_gives_are_refused_by_clip(tmp_path):
    path = write_lines(tmp_path / "p.jsonl", GOOD | {"mi": 1e200})
    with pytest.raises(
        DataError, match=rf"^{path}: mi of clips a \(1e\+200\): expected a score on the scale of 1 to 5"
    ):
        read_predictions(path)
    path = write_lines(tmp_path / "p.jsonl", GOOD | {"ta_dist": [0.5, 0.7]})
    with pytest.raises(DataError, match=rf"^{path}: ta_dist of clips a \(1\.2\): expected a distribution, so a sum"):
        read_predictions(path)
    (tmp_path / "answer.txt").write_text("a,1e200,2\n")
    with pytest.raises(DataError, match=r"answer\.txt: mi of clips a \(1e\+200\): expected a score on the scale"):
        read_predictions(tmp_path / "answer.txt")


def test_unknown_kind_of_file(tmp_path):
    (tmp_path / "p.csv").touch()
    with pytest.raises(DataError, match=r"p\.csv: unknown kind of predictions file, expected \.jsonl, \.pt or \.txt"):
        read_predictions(tmp_path / "p.csv")


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=rf"^{path}: cannot be written: No space left on device; make room there, "):
        write_predictions(path, two_clips())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# The original's .pt


def test_reads_the_originals_distributions():
    path = GOLDEN / "dist_a_eval.pt"
    read = read_predictions(path)
    truth = torch.load(path, weights_only=False)
    assert len(read.ids) == 60
    for row, clip in enumerate(read.ids):
        assert read.mi[row] == truth[clip]["overall_score"]
        assert read.ta[row] == truth[clip]["textual_score"]
        assert np.array_equal(read.mi_dist[row], truth[clip]["overall_dist"].astype(float))
        assert np.array_equal(read.ta_dist[row], truth[clip]["textual_dist"].astype(float))


def test_reads_the_originals_scalars():
    read = read_predictions(GOLDEN / "coral_c_dev.pt")
    assert len(read.ids) == 160
    assert read.mi_dist is None and read.ta_dist is None


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_reads_numpy_scalars_and_every_float_array(tmp_path, dtype):
    dist = np.array([0.25, 0.75], dtype)
    path = save_pt(tmp_path / "p.pt", **{"a.wav": original(np.float32(2.5), np.float64(3.5), dist, [0.5, 0.5])})
    read = read_predictions(path)
    assert read.ids == ("a",)
    assert (read.mi.item(), read.ta.item()) == (2.5, 3.5)
    assert read.mi_dist.tolist() == [[0.25, 0.75]]
    assert read.ta_dist.tolist() == [[0.5, 0.5]]


def test_reads_what_numpy_1_wrote(tmp_path):
    path = save_pt(tmp_path / "p.pt", a=original(mi_dist=np.float32([0.5, 0.5]), ta_dist=np.float32([1, 0])))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    assert b"numpy._core" in entries["p/data.pkl"]
    entries["p/data.pkl"] = entries["p/data.pkl"].replace(b"numpy._core", b"numpy.core")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert read_predictions(path).mi_dist.tolist() == [[0.5, 0.5]]


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_malicious_pt_is_refused_and_does_not_run(tmp_path):
    path, mark = tmp_path / "p.pt", tmp_path / "ran"
    torch.save({"a": original(mi=Payload(mark))}, path)
    with pytest.raises(DataError, match="damaged, or not predictions of the original system") as error:
        read_predictions(path)
    assert "nothing in it was run" in str(error.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # so the payload works, and was refused above


def test_a_bare_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    path, mark = tmp_path / "p.pt", tmp_path / "ran"
    path.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(DataError, match="nothing in it was run"):
        read_predictions(path)
    assert not mark.exists()


class Huge:
    """Asks for an array of 2**50 floats when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "bomb",
    [
        Huge(np.ndarray, (2**50,)),
        Huge(np._core.multiarray._reconstruct, np.ndarray, (2**50,), b"b"),
    ],
)
def test_an_array_larger_than_its_bytes_is_never_allocated(tmp_path, bomb):
    path = save_pt(tmp_path / "p.pt", a=original(mi_dist=bomb, ta_dist=[1.0]))
    with pytest.raises(DataError, match=r"p\.pt, clip 'a': mi_dist is \[\], expected a list of finite numbers"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([1, 2], "[1, 2], expected a dict of clips"),
        ({"a": 3.0}, "clip 'a': 3.0, expected a name and a dict of scores"),
        ({7: original()}, "expected a name and a dict of scores"),
        ({"a": {"overall_score": 3.0}}, "clip 'a': ta is None, expected a finite number"),
        ({"a": original(mi=float("nan"))}, "clip 'a': mi is nan, expected a finite number"),
        ({"a": original(), "a.wav": original()}, "clips with more than one prediction: a"),
        ({"a,b.wav": original()}, "clip 'a,b.wav': found the id 'a,b', expected a name without commas"),
        ({"a": original(mi=1e200)}, "mi of clips a (1e+200): expected a score on the scale of 1 to 5"),
        ({"a": original(), "b": original(mi_dist=[1.0])}, "clip 'b': bins are {'mi_dist': 1"),
        ({"a": original(mi_dist=np.ones((1, 20)))}, "damaged, or not predictions"),
        ({"a": original(mi_dist=np.array([1, 2]))}, "damaged, or not predictions"),
        ({"a": original(mi_dist=torch.ones(20))}, "damaged, or not predictions"),
    ],
)
def test_pt_refuses_other_contents(tmp_path, clips, message):
    torch.save(clips, tmp_path / "p.pt")
    with pytest.raises(DataError) as error:
        read_predictions(tmp_path / "p.pt")
    assert str(error.value).startswith(str(tmp_path / "p.pt"))
    assert message in str(error.value)


def test_a_truncated_pt_is_refused(tmp_path):
    path = tmp_path / "p.pt"
    path.write_bytes((GOLDEN / "dist_a_eval.pt").read_bytes()[:-500])
    with pytest.raises(DataError, match="damaged, or not predictions"):
        read_predictions(path)


def test_a_pt_with_a_flipped_bit_in_a_score_is_refused(tmp_path):
    path = save_pt(tmp_path / "p.pt", a=original())
    content = bytearray(path.read_bytes())
    content[content.find(struct.pack(">d", original()["overall_score"])) + 2] ^= 1
    path.write_bytes(content)
    found = torch.load(path, weights_only=False)["a"]["overall_score"]
    assert found != original()["overall_score"], "torch takes it"
    with pytest.raises(DataError, match=r"p\.pt: p/data\.pkl in it does not have the checksum it was saved with"):
        read_predictions(path)


def test_a_compressed_pt_is_refused_unread(tmp_path):
    path = save_pt(tmp_path / "p.pt", a=original())
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match="damaged, or not predictions"):
        read_predictions(path)


def test_a_pt_of_too_many_bytes_is_refused_unread(tmp_path):
    path = tmp_path / "p.pt"
    with path.open("wb") as file:
        file.truncate(16 * 2**20 + 1)
    with pytest.raises(DataError, match=r"p\.pt: takes 16777217 bytes, expected at most 16777216"):
        read_predictions(path)


def test_a_pt_of_too_many_clips_is_refused(tmp_path):
    path = save_pt(tmp_path / "p.pt", **{str(n): {} for n in range(20_001)})
    with pytest.raises(DataError, match=r"p\.pt: 20001 clips, expected at most 20000"):
        read_predictions(path)


@pytest.mark.parametrize("dist", [np.zeros(201, np.float32), [0.0] * 201])
def test_a_pt_of_too_many_bins_is_refused(tmp_path, dist):
    path = save_pt(tmp_path / "p.pt", a=original(mi_dist=dist, ta_dist=[1.0]))
    with pytest.raises(DataError, match=r"p\.pt, clip 'a': mi_dist has 201 bins, expected at most 200"):
        read_predictions(path)


class View:
    """One of many arrays of the same 2 MiB of bytes, which a copy for each would make 1 GiB."""

    CONTENT = bytes(2**21)

    def __reduce__(self):
        state = (1, (2**18,), np.dtype("f8"), False, self.CONTENT)
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state


def test_arrays_that_share_their_bytes_take_them_once(tmp_path):
    path = save_pt(tmp_path / "p.pt", **{f"c{n}": original(mi_dist=View()) for n in range(500)})
    assert path.stat().st_size < 4 * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="mi_dist has 262144 bins, expected at most 200"):
            read_predictions(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["p.pt", "p.jsonl", "p.txt"])
def test_a_missing_file_is_reported_as_missing(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: file not found, expected predictions, \.jsonl, \.pt or \.txt"):
        read_predictions(tmp_path / name)


# An answer, as predictions


def test_an_answer_is_read_as_scores_alone(tmp_path):
    written = two_clips(mi=[1 / 3 + 2, 1.5])
    write_answer(tmp_path / "answer.txt", written)
    read = read_predictions(tmp_path / "answer.txt")
    assert read.ids == ("a", "b")
    assert read.mi.tolist() == [1.5, 2.33333333]
    assert read.ta.tolist() == [3.5, 4.0]
    assert read.mi_dist is None and read.ta_dist is None


def test_an_answer_of_another_system_is_read(tmp_path):
    """With `.wav`, blanks, a byte order mark, Windows' line ends, in any order, and beyond the scale."""
    path = tmp_path / "answer.txt"
    path.write_bytes(b"\xef\xbb\xbfb.wav, 5.25, 4\r\n\r\na.x.wav,0.5,-1e0\r\n")
    read = read_predictions(path)
    assert read.ids == ("a.x", "b")
    assert read.mi.tolist() == [0.5, 5.25]
    assert read.ta.tolist() == [-1.0, 4.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b,1", "answer.txt:2: found 2 fields, expected 3: id,MI,TA"),
        ("b,1,2,3", "answer.txt:2: found 4 fields, expected 3: id,MI,TA"),
        ("b,nan,2", "answer.txt:2: MI is 'nan', expected a finite number"),
        ("b,1,1e999", "answer.txt:2: TA is '1e999', expected a finite number"),
        ("b,1,good", "answer.txt:2: TA is 'good', expected a finite number"),
        (",1,2", "answer.txt:2: found the id '', expected a name"),
        ("a.wav,1,2", "answer.txt:2: found 'a' again, expected it only in line 1"),
    ],
)
def test_an_answer_refuses_a_bad_line_by_number(tmp_path, line, message):
    path = tmp_path / "answer.txt"
    path.write_text(f"a,3,2\n{line}\n")
    with pytest.raises(DataError) as error:
        read_predictions(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


# The answer


def test_answer_has_8_decimals_and_is_clipped_with_a_word(tmp_path, caplog):
    write_answer(tmp_path / "answer.txt", two_clips(mi=[0.5, 1 / 3 + 2], ta=[5.25, 5.0]))
    assert (tmp_path / "answer.txt").read_text() == "a,2.33333333,5.00000000\nb,1.00000000,5.00000000\n"
    assert caplog.messages == ["2 of 4 scores were outside 1..5 and were clipped"]


def test_answer_within_range_says_nothing(tmp_path, caplog):
    write_answer(tmp_path / "answer.txt", two_clips())
    assert not caplog.messages


def test_which_rows_are_valid():
    inf, nan = float("inf"), float("nan")
    assert valid_rows(np.array([1.0, nan, -inf, 1e6, 1.1e6])).tolist() == [True, False, False, True, False]
    dists = np.array([[0.5, 0.5], [0.5, 0.502], [1.1, -0.1], [nan, 1], [inf, -inf]])
    assert valid_rows(dists).tolist() == [True, False, False, False, False]
