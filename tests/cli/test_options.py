"""Lines that are longer than a terminal is wide."""

import io

import click
import pytest
from click.testing import CliRunner

from audiomos_cache.cli.options import BATCH_SIZE, FILE, PLACE, Command, File, wrapped, wrapped_error
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


@click.command(cls=Command)
@click.argument("audio", nargs=-1, type=File(path_type=str))
@click.option("--out", type=FILE)
@click.option("--place", type=PLACE)
@click.option("--batch-size", type=BATCH_SIZE)
def command(**options):
    click.echo(repr(dict(sorted(options.items()))))


def ran(*arguments):
    found = CliRunner().invoke(command, arguments)
    return found.exit_code, found.output.splitlines()[-1]


def test_an_empty_string_is_no_path():
    """As of a variable that is not set: it would be the current folder."""
    path = "found '', expected a path; is a variable not set?"
    place = "found '', expected a name, a folder or a repository; is a variable not set?"
    assert ran("--out", "") == (2, f"Error: Invalid value for '--out': {path}")
    assert ran("a.wav", "") == (2, f"Error: Invalid value for '[AUDIO]...': {path}")
    assert ran("--place", "") == (2, f"Error: Invalid value for '--place': {place}")
    assert ran("a/", "--out", "b/", "--place", "c/") == (
        0,
        "{'audio': ('a/',), 'batch_size': None, 'out': PosixPath('b'), 'place': 'c/'}",
    )


def test_a_batch_has_bounds():
    wrong = "is not in the range 1<=x<=65536."
    assert ran("--batch-size", "9" * 20)[1] == f"Error: Invalid value for '--batch-size': {'9' * 20} {wrong}"
    assert ran("--batch-size", "0")[0] == 2
    assert ran("--batch-size", "65536")[0] == 0
