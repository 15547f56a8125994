from pathlib import Path

import numpy as np
import pytest

from audiomos_cache.dataset.labels import read_labels, read_ratings
from audiomos_cache.errors import DataError
from audiomos_cache.targets import rater_distribution

NAME = "audiomos2025-track1-"


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def message_of(*paths: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_ratings(*paths)
    return str(caught.value)


def test_ratings_by_clip_in_the_lists_order(tmp_path: Path) -> None:
    lines = ["S002_P044.wav,7,3,2", "S001_P002.wav,7,1,5", "S002_P044.wav,12,4,2", "S002_P044.wav,03,5,1"]
    ratings = read_ratings(write(tmp_path / "r.txt", "\n".join(NAME + line for line in lines)))
    assert ratings.source == str(tmp_path / "r.txt")
    assert ratings.ids == (f"{NAME}S002_P044", f"{NAME}S001_P002")
    assert ratings.mi.dtype == ratings.ta.dtype == np.float64
    np.testing.assert_array_equal(ratings.mi, [[3, 4, 5], [1, np.nan, np.nan]])
    np.testing.assert_array_equal(ratings.ta, [[2, 2, 1], [5, np.nan, np.nan]])


def test_the_mean_of_a_clips_ratings_is_its_label(tmp_path: Path) -> None:
    """The two lists of a dataset agree: 3, 3, 4, 5, 3 is an MI of 3.6."""
    lines = [
        f"a.wav,{rater},{mi},{ta}" for rater, (mi, ta) in enumerate(zip((3, 3, 4, 5, 3), (1, 1, 2, 1, 1), strict=True))
    ]
    ratings = read_ratings(write(tmp_path / "r.txt", "\n".join(lines)))
    labels = read_labels(write(tmp_path / "m.txt", "a.wav,3.6,1.2\n"))
    for given, label in ((ratings.mi, labels.mi), (ratings.ta, labels.ta)):
        assert rater_distribution(given) @ np.arange(1, 6) == pytest.approx(label)


def test_bom_crlf_blank_lines_spaces_and_decimals(tmp_path: Path) -> None:
    plain = read_ratings(write(tmp_path / "plain.txt", "a.wav,1,3,2\nb.wav,2,4,5\n"))
    odd = read_ratings(write(tmp_path / "odd.txt", "\ufeffa.wav,1,3.0,2\r\n\r\n b , 2 , 4 , 5e0 \r\n"))
    assert odd.ids == plain.ids == ("a", "b")
    np.testing.assert_array_equal(odd.mi, plain.mi)
    np.testing.assert_array_equal(odd.ta, plain.ta)


WHOLE = "expected a whole number: one listener's rating, not a mean"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a.wav,1,4,4", "found 'a,1' again, expected it only in line 1"),
        ("a, 1,4,4", "found 'a,1' again, expected it only in line 1"),
        ("b.wav,1,x,4", "MI is 'x', expected a number from 1 to 5"),
        ("b.wav,1,4,", "TA is '', expected a number from 1 to 5"),
        ("b.wav,1,0,4", "MI is '0', expected a number from 1 to 5"),
        ("b.wav,1,4,6", "TA is '6', expected a number from 1 to 5"),
        ("b.wav,1,nan,4", "MI is 'nan', expected a number from 1 to 5"),
        ("b.wav,1,3.5,4", f"MI is '3.5', {WHOLE}"),
        ("b.wav,1,3,4.2", f"TA is '4.2', {WHOLE}"),
        ("b.wav,1,3,1" + "0" * 60, "TA is '1" + "0" * 48 + ", expected a number from 1 to 5"),
        ("b.wav,,3,4", "found no rater of 'b', expected a name or number in the second field"),
        (".wav,1,3,4", "found the id '', expected a name without commas and control characters"),
        ("b.wav,3.4,2.6", "found 3 fields, expected 4: name.wav,rater,MI,TA"),
        ("b.wav,1,3,4,5", "found 5 fields, expected 4: name.wav,rater,MI,TA"),
        ("wav,rater,MI,TA", "MI is 'MI', expected a number from 1 to 5"),
    ],
)
def test_a_line_that_is_no_rating_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path / "r.txt", f"a.wav,1,3,2\n{line}\n")
    assert message_of(path) == f"r.txt:2: {problem}; correct {path}"


def test_all_problems_of_a_list_at_once(tmp_path: Path) -> None:
    message = message_of(write(tmp_path / "r.txt", "a.wav,3.4,2.6\n" * 7))
    assert message.count("found 3 fields") == 5 and "... (7 in all)" in message


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    assert message_of(tmp_path / "r.txt") == f"{tmp_path / 'r.txt'}: file not found, expected a list or a manifest"
    assert message_of(write(tmp_path / "r.txt", "\r\n")) == f"{tmp_path / 'r.txt'}: empty, expected a row or more"
    (tmp_path / "r.txt").write_bytes(b"a.wav,\xe9,3,4\n")
    assert message_of(tmp_path / "r.txt") == f"{tmp_path / 'r.txt'}: byte 6 is not UTF-8; save it as UTF-8 text"


def test_the_ratings_of_some_clips_in_their_order(tmp_path: Path) -> None:
    ratings = read_ratings(write(tmp_path / "r.txt", "a,1,1,5\nb,1,2,4\nb,2,3,4\nc,1,3,3\n"))
    chosen = ratings.of(("c", "b"))
    assert chosen.ids == ("c", "b") and chosen.source == ratings.source
    np.testing.assert_array_equal(chosen.mi, [[3, np.nan], [2, 3]])
    np.testing.assert_array_equal(chosen.ta, [[3, np.nan], [4, 4]])


def test_clips_without_ratings_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.txt", "a,1,1,5\n")
    with pytest.raises(DataError) as caught:
        read_ratings(path).of(("b", "a", "c"))
    assert str(caught.value) == f"{path}: no ratings of b, c, expected one or more of every clip"


def test_several_lists_are_read_as_one(tmp_path: Path) -> None:
    """MusicEval keeps a list for each split."""
    train = write(tmp_path / "train.txt", "a,1,1,5\nb,1,2,4\n")
    dev = write(tmp_path / "dev.txt", "c,1,3,3\na,2,4,2\n")
    both = read_ratings(train, dev)
    assert both.ids == ("a", "b", "c")
    np.testing.assert_array_equal(both.mi, [[1, 4], [2, np.nan], [3, np.nan]])
    with pytest.raises(DataError) as caught:
        both.of(["d"])
    assert str(caught.value) == f"{train}, {dev}: no ratings of d, expected one or more of every clip"


def test_a_rating_in_two_lists_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "first.txt", "a,1,1,5\nb,1,2,4\n")
    second = write(tmp_path / "second.txt", "c,1,1,5\nb,1,2,4\n")
    assert message_of(first, second) == f"{second}: ratings that are in another list too: b,1; remove them from one"
