"""What is handed in, and every way in which it is refused."""

import json
import stat
import zipfile

import pytest

from audiomos_cache.errors import DataError, OutputExistsError
from audiomos_cache.evaluation.submission import submit

CLIPS = {"b": (2.0, 4.0), "a": (1.5, 3.5)}


@pytest.fixture
def files(tmp_path):
    """Predictions, list and zip; only the first two are there."""
    (tmp_path / "eval_list.txt").write_text("b.wav\na\n")
    return write(tmp_path / "p.jsonl", CLIPS), tmp_path / "eval_list.txt", tmp_path / "answer.zip"


def write(path, clips):
    path.write_text("".join(json.dumps({"id": c, "mi": mi, "ta": ta}) + "\n" for c, (mi, ta) in clips.items()))
    return path


def test_it_holds_the_answer_alone(files):
    assert submit(*files).clips == 2
    with zipfile.ZipFile(files[2]) as archive:
        (entry,) = archive.infolist()
        assert entry.filename == "answer.txt"
        assert archive.read(entry) == b"a,1.50000000,3.50000000\nb,2.00000000,4.00000000\n"


def test_the_same_answer_gives_the_same_bytes(files, tmp_path):
    submit(*files)
    (tmp_path / "other_list.txt").write_text("a\nb\n")
    again = tmp_path / "again.zip"
    submit(write(tmp_path / "q.jsonl", dict(reversed(CLIPS.items()))), tmp_path / "other_list.txt", again)
    assert again.read_bytes() == files[2].read_bytes()
    (entry,) = zipfile.ZipFile(again).infolist()
    assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    assert (entry.create_system, stat.S_IMODE(entry.external_attr >> 16)) == (3, 0o644)


def test_scores_out_of_range_are_clipped_and_counted(files, caplog):
    write(files[0], {"a": (0.5, 3.0), "b": (5.5, 1.0)})
    submit(*files)
    assert zipfile.ZipFile(files[2]).read("answer.txt") == b"a,1.00000000,3.00000000\nb,5.00000000,1.00000000\n"
    assert caplog.messages == ["2 of 4 scores were outside 1..5 and were clipped"]


def test_the_result_prints_and_becomes_a_dict(files):
    result = submit(*map(str, files))
    assert repr(result) == f"{files[2]}: answer.txt with 2 clips"
    assert result.to_dict() == {"path": str(files[2]), "clips": 2}


def test_other_clips_are_refused_with_the_first_five_and_the_count(files):
    write(files[0], {"a": (2.0, 2.0)} | {f"x{n}": (2.0, 2.0) for n in range(6)})
    with pytest.raises(DataError) as error:
        submit(*files)
    assert str(error.value) == (
        f"{files[0]}: 7 clips, expected the 2 of {files[1]}: nothing for b; not asked for x0, x1, x2, x3, x4, ... "
        "(6 in all); predict the split that the list names"
    )
    assert not files[2].exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "mi": 2.0, "ta": 2.0}', "clips with more than one prediction: a"),
        ('{"id": "c", "mi": NaN, "ta": 2.0}', "not a line of JSON: found NaN, expected a number that JSON has"),
        (
            '{"id": "c", "mi": 2.0, "ta": Infinity}',
            "not a line of JSON: found Infinity, expected a number that JSON",
        ),
        ('{"id": "c", "mi": 2.0}', "ta is None, expected a finite number"),
    ],
)
def test_bad_predictions_are_refused(files, line, message):
    with files[0].open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError) as error:
        submit(*files)
    assert str(error.value).startswith(str(files[0]))
    assert message in str(error.value)
    assert not files[2].exists()


def test_a_list_with_a_clip_twice_is_refused(files):
    files[1].write_text("a\nb\na.wav\n")
    with pytest.raises(DataError, match=r"eval_list\.txt:3: found 'a' again, expected it only in line 1"):
        submit(*files)


def test_a_zip_is_replaced_only_when_asked(files):
    files[2].write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match=r"answer\.zip: exists already; give another --out, or --overwrite"):
        submit(*files)
    assert files[2].read_bytes() == b"mine"
    submit(*files, overwrite=True)
    assert zipfile.is_zipfile(files[2])


def test_a_refusal_leaves_the_earlier_zip(files):
    submit(*files)
    earlier = files[2].read_bytes()
    write(files[0], {"a": (2.0, 2.0)})
    with pytest.raises(DataError):
        submit(*files, overwrite=True)
    assert files[2].read_bytes() == earlier
