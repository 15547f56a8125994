"""Reading files that anybody may have written, and JSON."""

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.files import (
    exists,
    is_folder,
    parse_integer,
    parse_json,
    parse_number,
    read_file,
    read_json,
    read_json_lines,
    read_tensors,
    real_path,
)


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


def test_nothing_has_a_name_that_is_too_long(tmp_path):
    for path in (Path("n" * 6000), tmp_path / ("n" * 300), Path("a\0b")):
        assert not exists(path)
        assert not is_folder(path)
        assert not is_folder(str(path))
    assert exists(tmp_path)
    assert is_folder(tmp_path)


def test_json_is_parsed():
    assert parse_json('{"a": [1, 2.5, null, true], "b": {"a": "\\u00e9"}}') == {
        "a": [1, 2.5, None, True],
        "b": {"a": "é"},
    }


def test_a_whole_surrogate_pair_is_a_character_and_half_of_one_may_be_a_byte_of_a_files_name():
    assert parse_json('["\\ud83c\\udfb5"]', whole_characters=True) == ["\U0001f3b5"]
    assert parse_json('["\\udce9"]') == ["\udce9"]
    with pytest.raises(ValueError, match="half a surrogate pair, which is no character"):
        parse_json('["\\udce9"]', whole_characters=True)


def test_a_byte_order_mark_is_left_out():
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize("text", ["1_0", "\u0661", "nan", "inf", "1e999", "0x1", "1,5", "", " ", "--1", "1e", "true"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="is not a number"):
        parse_number(text)
    with pytest.raises(ValueError, match="is not a whole number"):
        parse_integer(text)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), (" -1.5 ", -1.5), ("+.5e-3", 0.0005), ("3.", 3.0), ("1E2", 100.0)]
)
def test_a_number_is_read(text, value):
    assert parse_number(text) == value


def test_a_whole_number_is_read():
    assert parse_integer(" -012 ") == -12
    with pytest.raises(ValueError, match="is a number of more than 20 digits"):
        parse_integer("9" * 400)


def test_what_is_read_takes_its_own_size_of_memory(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    tracemalloc.start()
    read_file(tmp_path / "a", "a list", most=1 << 40)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_json_files_name_the_line_and_what_was_expected(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n[1]\n')
    with pytest.raises(DataError, match=r"a\.jsonl:3: \[1\], expected an object of a history"):
        read_json_lines(tmp_path / "a.jsonl", "a history")
    with pytest.raises(ConfigError, match=r"a\.jsonl: not JSON \(Extra data.*\), expected metrics; train it again"):
        read_json(tmp_path / "a.jsonl", "metrics", ConfigError, "train it again")


@pytest.mark.parametrize("content", [b"", b"\x08" + bytes(7) + b"not json", bytes(100), b"\xff" * 100])
def test_what_is_no_safetensors_is_a_value_error(content):
    with pytest.raises(ValueError, match="not safetensors"):
        read_tensors(content)


def test_a_link_to_itself_leads_nowhere_else(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert real_path(tmp_path / "loop") == tmp_path / "loop"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' is there twice"),
        ("[NaN]", "found NaN"),
        ("[-Infinity]", "found -Infinity"),
        ("1e309", "found 1e309"),
        ("9" * 5000, "^a whole number of thousands of digits$"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (b'"\xff"', "utf-8"),
        ("1_0", "Extra data"),
        ("\u0661", "Expecting value"),
        ("", "Expecting value"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ("[" + "[]," * 2**20 + "1]", "more than 1048576 lists and objects"),
        ("[1]".encode("utf-16"), "utf-8"),
    ],
)
def test_what_is_not_json_or_is_so_in_two_ways_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem):
        parse_json(content)
