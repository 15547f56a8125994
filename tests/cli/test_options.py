"""Lines that are longer than a terminal is wide."""

import io

import pytest

from audiomos_cache.cli.options import wrapped, wrapped_error
from audiomos_cache.errors import DataError
from tests.support.terminal import Terminal

PATH = "a/" * 60 + "train.h5"


def test_a_terminal_gets_lines_that_are_broken_between_words(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = f"train: 272 clips to encode, 8.7 MB when finished-at-last\n  splits: {PATH}  and others\n\nshort  one"
    assert wrapped(text, Terminal()).split("\n") == [
        "train: 272 clips to encode, 8.7 MB when",
        "finished-at-last",
        "  splits:",
        f"  {PATH}",
        "  and others",
        "",
        "short  one",
    ], "a path is left whole, so that it can be copied"


def test_lines_are_as_long_as_they_are_shown(monkeypatch):
    monkeypatch.setenv("COLUMNS", "21")
    assert wrapped("夜曲夜曲 夜曲夜曲 夜曲夜曲 word", Terminal()) == "夜曲夜曲 夜曲夜曲\n夜曲夜曲 word", (
        "two cells a letter"
    )
    accents = "e\u0301te\u0301"
    assert wrapped(f"  夜曲夜曲 {accents} {accents} 123", Terminal()) == f"  夜曲夜曲 {accents} {accents}\n  123"


def test_an_error_is_broken_as_click_prints_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    error = DataError("clip a: not audio, expected music", "see the manual, which has more of it")
    monkeypatch.setattr("sys.stderr", Terminal())
    assert f"Error: {wrapped_error(error)}".split("\n") == [
        "Error: clip a: not audio,",
        "expected music",
        "see the manual, which has",
        "more of it",
    ]
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert wrapped_error(error) == str(error)


def test_a_file_gets_lines_as_they_are(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert wrapped("word " * 100, io.StringIO()) == "word " * 100


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_a_terminal_would_obey_is_escaped(stream):
    assert wrapped("a\x1b[2J\u202eb\nc\td", stream) == "a\\x1b[2J\\u202eb\nc\\td"
