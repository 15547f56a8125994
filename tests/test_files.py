"""Reading files that anybody may have written, and JSON."""

import os
import socket
from pathlib import Path

import pytest

from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.files import parse_json, read_file


def test_a_file_and_a_link_to_it_are_read(tmp_path):
    path, link = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"\x00abc")
    link.symlink_to(path)

    assert read_file(path, "a list") == read_file(link, "a list") == b"\x00abc"


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda _path: None, r"x: file not found, expected a list"),
        (Path.mkdir, r"x: is a folder, expected a list"),
        (_pipe, r"x: is a named pipe, expected a list"),
        (_socket, r"x: cannot be read \(.*\), expected a list"),
        (lambda path: path.symlink_to("/dev/zero"), r"x: is a device, expected a list"),
        (
            lambda path: path.symlink_to(path),
            r"x: cannot be read \(Too many levels of symbolic links\), expected a list",
        ),
        (lambda path: path.write_bytes(bytes(101)), r"x: 101 bytes, expected a list, of at most 100 bytes"),
    ],
)
def test_what_is_no_file_of_text_is_refused_at_once(tmp_path, monkeypatch, make, found):
    monkeypatch.chdir(tmp_path)
    make(Path("x"))

    with pytest.raises(ConfigError, match=f"^{found}$"):
        read_file(Path("x"), "a list", ConfigError, most=100)


@pytest.mark.parametrize("name", ["a\0b", "a\udc80\x1b[31m", "n" * 300])
def test_a_name_that_no_file_can_have(name):
    with pytest.raises(DataError, match=r"(cannot be read|not found).*expected a list") as caught:
        read_file(Path(name), "a list")

    assert caught.value.args[0].isprintable()


def test_json_is_parsed():
    assert parse_json('{"a": [1, 2.5, null, true], "b": {"a": "\\u00e9"}}') == {
        "a": [1, 2.5, None, True],
        "b": {"a": "é"},
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' is there twice"),
        ("[NaN]", "found NaN"),
        ("[-Infinity]", "found -Infinity"),
        ("1e309", "found 1e309"),
        ("9" * 5000, "digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (b'"\xff"', "utf-8"),
        ("1_0", "Extra data"),
        ("\u0661", "Expecting value"),
        ("", "Expecting value"),
    ],
)
def test_what_is_not_json_or_is_so_in_two_ways_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem):
        parse_json(content)
