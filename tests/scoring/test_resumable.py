import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from audiomos_cache.errors import BusyError, DataError, OutputError, OutputExistsError
from audiomos_cache.scoring import resumable
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import LINE, OF_CLIP, row_to_line, to_line
from audiomos_cache.scoring.resumable import score_file
from tests.support.faults import full_disk
from tests.support.score_lines import (
    BUNDLE,
    ITEMS,
    OTHER,
    SEVERAL,
    entries,
    line,
    line_of_several,
    names,
    read,
    resume,
    score,
)


def test_a_file_name_that_is_not_utf8_is_written_and_found_again(tmp_path):
    name = os.fsdecode(b"\\caf\xe9\xff.wav")
    item = Item(name, Path(name), None)
    content = line(item, ta=None)
    row = json.loads(content.decode("utf-8"))
    assert os.fsencode(row["path"]) == os.fsencode(row["id"]) == b"\\caf\xe9\xff.wav"
    (tmp_path / "s.jsonl").write_bytes(content)
    assert list(resume(tmp_path / "s.jsonl", [item])) == [name]


def test_each_line_is_there_at_once_and_in_order(tmp_path):
    path = tmp_path / "new/s.jsonl"
    with score_file(path, overwrite=False) as file:
        assert not file.holds_lines()
        assert not path.exists()
        for number, item in enumerate(ITEMS, 1):
            file.write(line(item))
            assert [row["id"] for row in read(path)] == list("abcdef")[:number]
    assert list(path.parent.iterdir()) == [path]


def test_what_was_written_is_forced_to_the_disk_at_the_end(tmp_path, monkeypatch):
    path, synced, sync = tmp_path / "s.jsonl", [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_ino), sync(file)))
    with pytest.raises(KeyboardInterrupt), score_file(path, overwrite=False) as file:
        file.write(line(ITEMS[0]))
        assert synced == []
        raise KeyboardInterrupt
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_a_resume_keeps_what_is_done_and_appends_the_rest(tmp_path):
    path = tmp_path / "s.jsonl"
    with score_file(path, overwrite=False) as file:
        file.write(line(ITEMS[4], mi=4.5))
        file.write(line(ITEMS[1], ta=None))
    inode = path.stat().st_ino
    with score_file(path, overwrite=False) as file:
        assert file.holds_lines()
        done = []
        assert file.resume(ITEMS, entries(), names(entries()), done.append) == {"e", "b"}
        assert [(row["id"], row["mi"], row["ta"]) for row in done] == [("e", 4.5, 2.5), ("b", 3.25, None)]
        file.write(line(ITEMS[0]))
    assert [row["id"] for row in read(path)] == ["e", "b", "a"]
    assert path.stat().st_ino == inode, "nothing was to be dropped"


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("m/a.wav", "{here}/m/a.wav"),
        ("{here}/m/a.wav", "m/a.wav"),
        ("m/a.wav", "./m/sub/../a.wav"),
        ("link/a.wav", "m/a.wav"),
        ("m/a.wav", "{here}/link/linked.wav"),
        ("gone/a.wav", "{here}/gone/a.wav"),
        ("loop/a.wav", "{here}/loop/a.wav"),
    ],
)
def test_a_file_is_the_same_however_its_path_is_written(tmp_path, monkeypatch, then, now):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m/sub").mkdir(parents=True)
    (tmp_path / "m/a.wav").touch()
    (tmp_path / "m/linked.wav").symlink_to("a.wav")
    (tmp_path / "link").symlink_to("m")
    (tmp_path / "loop").symlink_to("loop")
    content = line(Item("a", Path(then.format(here=tmp_path)), "x"))
    (tmp_path / "s.jsonl").write_bytes(content)
    assert list(resume(tmp_path / "s.jsonl", [Item("a", Path(now.format(here=tmp_path)), "x")])) == ["a"]
    assert (tmp_path / "s.jsonl").read_bytes() == content


@pytest.mark.parametrize("then", ["n/a.wav", "a.wav", "m/b.wav", "m/a.wav\0", "\ud800", None, ""])
def test_another_file_is_not_the_same(tmp_path, monkeypatch, then):
    monkeypatch.chdir(tmp_path)
    row = {**json.loads(line(ITEMS[0])), "path": then}
    (tmp_path / "s.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError) as caught:
        resume(tmp_path / "s.jsonl")
    assert f":1: 'a' was scored with the path {then!r}, expected 'm/a.wav'; " in str(caught.value)


def test_lines_of_what_is_not_wanted_now_are_kept_to_the_byte(tmp_path):
    path = tmp_path / "s.jsonl"
    spaced = json.dumps(json.loads(line(ITEMS[0])), indent=None, separators=(" , ", " : ")).encode() + b"\n"
    failed = line(ITEMS[1], mi=None, ta=None, error="not audio")
    path.write_bytes(spaced + failed + line(ITEMS[2], mi=None, ta=None, error="not audio"))
    assert resume(path, ITEMS[2:]) == {}
    assert path.read_bytes() == spaced + failed


def test_failed_ones_are_dropped_even_where_their_path_was_mended(tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(line(ITEMS[0]) + line(ITEMS[1], mi=None, ta=None, error="no such file") + line(ITEMS[2]))
    mended = [ITEMS[0], Item("b", Path("elsewhere/b.wav"), "x"), ITEMS[2]]
    assert list(resume(path, mended)) == ["a", "c"]
    assert path.read_bytes() == line(ITEMS[0]) + line(ITEMS[2])


def test_a_last_line_that_was_cut_off_is_dropped_wherever_it_was_cut(tmp_path):
    path, whole, last = tmp_path / "s.jsonl", line(ITEMS[0]), line(ITEMS[1])
    for cut in (*range(0, len(last) - 1, 7), len(last) - 2, len(last) - 1):
        path.write_bytes(whole + last[:cut])
        finished = cut == len(last) - 1  # it lacks its line break alone
        assert list(resume(path)) == ["a", "b"][: 1 + finished]
        assert path.read_bytes() == whole + last * finished


@pytest.mark.parametrize("zeros", [1, 100, 4096])
def test_the_zeros_that_a_power_cut_leaves_are_dropped(tmp_path, zeros):
    path, whole, last = tmp_path / "s.jsonl", line(ITEMS[0]), line(ITEMS[1])
    for written, kept in ((b"", b""), (last[:3], b""), (last[:60], b""), (last[:-1], last)):
        path.write_bytes(whole + written + bytes(zeros))
        assert list(resume(path)) == ["a", "b"][: 1 + bool(kept)]
        assert path.read_bytes() == whole + kept


@pytest.mark.parametrize("rest", [b"\0\n", b"\0\0x", b"\0" + line(ITEMS[1])])
def test_zeros_before_something_else_are_named(tmp_path, rest):
    path = tmp_path / "s.jsonl"
    path.write_bytes(line(ITEMS[0]) + rest)
    with pytest.raises(DataError, match=r"s\.jsonl:2: found '.x00.*, expected a score; give another --out"):
        resume(path)
    assert path.read_bytes() == line(ITEMS[0]) + rest


def test_a_last_line_that_nobody_writes_is_not_one_that_was_cut_off(tmp_path):
    path = tmp_path / "s.jsonl"
    content = line(ITEMS[0]) + line(ITEMS[1]).replace(b'"mi": 3.25', b'"mi": NaN')[:-1]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"s\.jsonl:2: found NaN, expected a number that JSON has"):
        resume(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("mi", "ta"), [(1, 5), (1.0, 5.0), (5, None), (3.000001, 1), (None, 2.5), (0.999999, 5.000001), (99.0, -1e300)]
)
def test_any_number_is_a_score_also_beyond_the_scale(tmp_path, mi, ta):
    """As a head that is not kept within it gives it."""
    (tmp_path / "s.jsonl").write_bytes(line(ITEMS[0], mi=mi, ta=ta))
    assert [(row["mi"], row["ta"]) for row in resume(tmp_path / "s.jsonl").values()] == [(mi, ta)]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"hello\n",
        b"\n \nhello\n",
        b"\0\0hello",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"\xff\xfe",
        b"path,prompt\na.wav,slow piano\n",
        b'{"id": "a"}\n',
        b'{"id": "a", "path": "a.wav", "prompt": "slow piano"}',
        b'{"id": 7}\n',
        b'{"id": "a", \n"path": "m/a.wav"}',
        b"[1]\n",
        b"[",
        b"hello\n" + line(ITEMS[0]),
    ],
)
def test_a_file_of_another_kind_is_left_as_it_is(tmp_path, content, overwrite):
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    opening = score_file(path, overwrite=overwrite)
    with (
        pytest.raises(
            OutputExistsError, match=r"s\.jsonl: begins with .*, expected scores or nothing; give another --out$"
        ),
        opening,
    ):
        pytest.fail("opened")
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


BY_ANOTHER = f"was scored by the bundle {OTHER} (mean of 30 s), expected {BUNDLE} (mean of 30 s)"
[ENTRY] = entries().values()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line(ITEMS[1], OTHER), f"'b' {BY_ANOTHER}"),
        (line(ITEMS[1], OTHER, mi=None, ta=None, error="x"), f"'b' {BY_ANOTHER}"),
        (line(Item("z", Path("z"), None), OTHER), f"'z' {BY_ANOTHER}"),
        (to_line(score(ITEMS[1]), entries(windows="centre 10 s")),
         f"'b' was scored by the bundle {BUNDLE} (centre 10 s), expected {BUNDLE} (mean of 30 s)"),
        (line_of_several(ITEMS[1]), "'b' was scored of several bundles, expected 1 bundle"),
        (line(Item("b", Path("b.wav"), ITEMS[1].prompt)), "'b' was scored with the path 'b.wav', expected 'm/b.wav'"),
        (line(Item("b", ITEMS[1].path, None)), "'b' was scored with the prompt None, expected 'prompt of b, é'"),
        (line(Item("b", ITEMS[1].path, "")), "'b' was scored with the prompt '', expected 'prompt of b, é'"),
        (line(ITEMS[0]), "found 'a' again"),
        (line(ITEMS[1], mi=None, ta=None), "'b' has neither scores nor error"),
        (line(ITEMS[1], error="x"), "'b' has both scores and error"),
        (line(ITEMS[1], mi=None, ta=None, scores={"clarity": 2}, error="x"),
         "'b' has both scores and error"),
        (line(ITEMS[1], mi=None, ta=None, scores={}), "'b' has neither scores nor error"),
        (line(ITEMS[1], mi=None, error=7), "'b' has the error 7, expected a string or null"),
        (line(ITEMS[1], mi=(3.25,)), "'b' has the mi [3.25], expected a number, or null"),
        (line(ITEMS[1], mi={"x": 3.25}), "'b' has the mi {'x': 3.25}, expected a number, or null"),
        (line(ITEMS[1], mi=True), "'b' has the mi True, expected a number, or null"),
        (line(ITEMS[1], mi="3"), "'b' has the mi '3', expected a number, or null"),
        (line(ITEMS[1], ta="high"), "'b' has the ta 'high', expected a number, or null"),
        (line(ITEMS[1], mi_interval=(3.0, 2.5)),
         "'b' has the mi_interval [3.0, 2.5], expected two numbers from 1 to 5, the lower one first, or null"),
        (line(ITEMS[1], windows=1.5), "'b' has the windows 1.5, expected a whole number"),
        (line(ITEMS[1], warnings=(1,)), "'b' has the warnings [1], expected a list of strings"),
        (line(ITEMS[1], duration_s=-1.0), "'b' has the duration_s -1.0, expected a number of seconds, or null"),
        (line(ITEMS[1], scores={"x": "y"}), "'b' has the scores {'x': 'y'}, expected an object of numbers and nulls"),
        (line(ITEMS[1], scores={"x": True}), "'b' has the scores {'x': True}, expected an object of numbers and nulls"),
        (line(ITEMS[1], scores=(1.0,)), "'b' has the scores [1.0], expected an object of numbers and nulls"),
        *((line(ITEMS[1], heard=heard),
           f"'b' has the heard {shown}, expected two numbers of seconds, the lower one first, or null")
          for heard, shown in (((2.0, 1.0), "[2.0, 1.0]"), ((-1.0, 2.0), "[-1.0, 2.0]"), ((1.0,), "[1.0]"),
                               ((0.0, True), "[0.0, True]"), ("all", "'all'"), ((0.0, None), "[0.0, None]"))),
        *((line(ITEMS[1]).replace(json.dumps(ENTRY).encode(), json.dumps(entry).encode()),
           f"'b' has the bundle {entry!r:.50}, expected an object with the strings name, digest, windows, licence")
          for entry in (BUNDLE, None, {}, ENTRY | {"digest": 7}, ENTRY | {"x": "y"}, [*ENTRY])),
        (line(ITEMS[1]).replace(b'"m/b.wav"', b"7"), "'b' has the path 7, expected a string or null"),
        (line(ITEMS[1], ta=False), "'b' has the ta False, expected a number, or null"),
        (line(ITEMS[1]).replace(b'"mi": 3.25', b'"mi": NaN'), "found NaN, expected a number that JSON has"),
        (line(ITEMS[1]).replace(b"3.25", b"1e999"), "found 1e999, expected a number that a computer can hold"),
        (line(ITEMS[1]).replace(b"null", b"-Infinity", 1), "found -Infinity, expected a number that JSON has"),
        (line(ITEMS[1])[:50] + b"\n", "found '{\"id\": \"b\", \"path\": \"m/b.wav\", \"prompt\":', expected a score"),
        (b"[" * 100_000 + b"\n", "nested too deeply"),
        (line(ITEMS[1]).replace(b'"ta"', b'"mi"', 1), "the key 'mi' is there twice"),
        (line(ITEMS[1]).replace(b"3.25", b'3.25, "x": 1'), f"'b' has the key 'x', expected only {', '.join(LINE)}"),
        (line(ITEMS[1], ta_interval=(1.0, 5.5)),
         "'b' has the ta_interval [1.0, 5.5], expected two numbers from 1 to 5, the lower one first, or null"),
        (line(ITEMS[1], mi_interval=(2.0,)),
         "'b' has the mi_interval [2.0], expected two numbers from 1 to 5, the lower one first, or null"),
        (line(ITEMS[1], mi_interval=(2.0, True)),
         "'b' has the mi_interval [2.0, True], expected two numbers from 1 to 5, the lower one first, or null"),
        (line(ITEMS[1], duration_s=0.0), "'b' has the duration_s 0.0, expected a number of seconds, or null"),
        (line(ITEMS[1], windows=-1), "'b' has the windows -1, expected a whole number"),
        (line(ITEMS[1], windows=True), "'b' has the windows True, expected a whole number"),
        (line(ITEMS[1]).replace(b'"warnings": []', b'"warnings": "silent"'),
         "'b' has the warnings 'silent', expected a list of strings"),
        (line(ITEMS[1])[:-1] + b"," + line(ITEMS[2]),
         "found '{\"id\": \"b\", \"path\": \"m/b.wav\", \"prompt\":', expected a score"),
    ],
)  # fmt: skip
def test_the_first_line_that_does_not_fit_is_named_and_the_file_left_as_it_is(tmp_path, bad, message):
    path = tmp_path / "s.jsonl"
    content = line(ITEMS[0]) + bad + b"another\n" + line(ITEMS[2])[:-9]
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        resume(path)
    assert str(caught.value) == f"{path}:2: {message}; give another --out, or --overwrite to start again"
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [
        line(ITEMS[2], OTHER),
        b"\n" + line(ITEMS[2]) + b"notes",
        json.dumps(json.loads(line(ITEMS[2])), separators=(",", ":")).encode(),
        line(ITEMS[2], mi=None, ta=None, error="not audio"),
        line(ITEMS[2])[:60],
        line(ITEMS[2])[:3] + bytes(9),
        bytes(4096),
        b"\n",
        b"",
    ],
)
def test_overwriting_replaces_scores_by_the_first_line(tmp_path, content):
    path = tmp_path / "s.jsonl"
    path.write_bytes(content)
    with pytest.raises(RuntimeError), score_file(path, overwrite=True) as file:
        assert not file.holds_lines()
        raise RuntimeError("before the first")
    assert path.read_bytes() == content
    with score_file(path, overwrite=True) as file:
        for item in ITEMS[:2]:
            file.write(line(item))
    assert path.read_bytes() == line(ITEMS[0]) + line(ITEMS[1])


def test_a_second_process_is_refused(tmp_path):
    path = tmp_path / "s.jsonl"
    (tmp_path / "link.jsonl").symlink_to("s.jsonl")
    with score_file(path, overwrite=False) as file:
        file.write(line(ITEMS[0]))
        for name in ("s.jsonl", "link.jsonl"):
            second = score_file(tmp_path / name, overwrite=True)
            with (
                pytest.raises(BusyError, match=rf"^{path}: is being written by process {os.getpid()} on .*; wait "),
                second,
            ):
                pytest.fail("written")
        file.write(line(ITEMS[1]))
    assert [row["id"] for row in read(path)] == ["a", "b"]
    assert list(resume(path)) == ["a", "b"]


def test_of_a_link_the_file_is_written(tmp_path):
    (tmp_path / "link.jsonl").symlink_to("s.jsonl")
    (tmp_path / "s.jsonl").write_bytes(line(ITEMS[0]) + line(ITEMS[1], mi=None, ta=None, error="x"))
    resume(tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "s.jsonl").read_bytes() == line(ITEMS[0])


@pytest.mark.parametrize("name", ["/dev/null", "folder"])
def test_what_is_no_file_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    making = score_file(tmp_path / name, overwrite=True)
    with pytest.raises(OutputError, match=r": not a file, expected one for the scores; give another --out$"), making:
        pytest.fail("written")


def test_a_full_disk_keeps_what_was_written(tmp_path):
    path = tmp_path / "s.jsonl"
    with pytest.raises(OutputError) as caught, score_file(path, overwrite=False) as file:
        file.write(line(ITEMS[0]))
        with full_disk(len(line(ITEMS[0])) + 30):
            file.write(line(ITEMS[1]))
    assert str(caught.value) == f"{path}: cannot be written: File too large; make room there, or give another --out"
    assert list(resume(path)) == ["a"]
    assert path.read_bytes() == line(ITEMS[0])


# Several bundles

EXPECTED = f"{BUNDLE} (mean of 30 s), {OTHER} (centre 10 s)"


def edited(item: Item, change) -> bytes:
    """A line of several bundles that somebody changed."""
    row = json.loads(line_of_several(item))
    change(row)
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def of_second(**values):
    """Change what the second bundle says."""
    return lambda row: row["bundles"]["muq-eval-a1"].update(values)


def test_lines_of_several_bundles_are_resumed(tmp_path):
    """A clip that one of them could not score is tried again by all."""
    path = tmp_path / "s.jsonl"
    failed = score(ITEMS[1], mi=None, ta=None, scores={}, windows=0, error="too long")
    lines = [
        line_of_several(ITEMS[2], columns={"n": 1}),
        line_of_several(ITEMS[1], failed, error="muq-eval-a1: too long"),
        line_of_several(ITEMS[0]),
    ]
    path.write_bytes(b"".join(lines) + line_of_several(ITEMS[3])[:200])
    found = resume(path, ITEMS, SEVERAL)
    of_clips = {clip_id: [each["mi"] for each in row["bundles"].values()] for clip_id, row in found.items()}
    assert of_clips == {"c": [3.25, 5.25], "a": [3.25, 5.25]}
    assert path.read_bytes() == line_of_several(ITEMS[2]) + line_of_several(ITEMS[0]), "with the columns of now"
    with score_file(path, overwrite=False) as file:
        assert file.resume(ITEMS, dict(reversed(SEVERAL.items())), names(SEVERAL), id) == {"c", "a"}, (
            "in whatever order they are given"
        )
        file.write(line_of_several(ITEMS[1]))
    assert [row["id"] for row in read(path)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line(ITEMS[1]), "'b' was scored of one bundle, expected 2 bundles"),
        (line_of_several(ITEMS[1], made_by=entries() | entries(BUNDLE, "centre 10 s", "muq-eval-a1")),
         f"'b' was scored by the bundle {BUNDLE} (mean of 30 s), {BUNDLE} (centre 10 s), expected {EXPECTED}"),
        (line_of_several(ITEMS[1], made_by=entries() | entries(OTHER, "mean of 10 s", "muq-eval-a1")),
         f"'b' was scored by the bundle {BUNDLE} (mean of 30 s), {OTHER} (mean of 10 s), expected {EXPECTED}"),
        (edited(ITEMS[1], lambda row: row["bundles"].pop("muq-eval-a1")),
         f"'b' was scored by the bundle {BUNDLE} (mean of 30 s), expected {EXPECTED}"),
        (edited(ITEMS[1], lambda row: row.update(x=1)),
         f"'b' has the key 'x', expected only {', '.join(OF_CLIP)}"),
        (edited(ITEMS[1], lambda row: row.update(error="x")), "'b' has an error, and no bundle has one"),
        (edited(ITEMS[1], of_second(error="x")), "'b' has both scores and error"),
        (edited(ITEMS[1], of_second(scores={})), "'b' has neither scores nor error"),
        *((edited(ITEMS[1], lambda row, bundles=bundles: row.update(bundles=bundles)),
           f"'b' has the bundles {bundles!r:.50}, expected an object of scores by the bundle's name")
          for bundles in ({}, [], None, {"model": 3}, {"model": {"mi": 3.25}})),
    ],
)  # fmt: skip
def test_the_first_line_of_several_bundles_that_does_not_fit_is_named(tmp_path, bad, message):
    path = tmp_path / "s.jsonl"
    content = line_of_several(ITEMS[0]) + bad + line_of_several(ITEMS[2])[:-9]
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        resume(path, ITEMS, SEVERAL)
    assert str(caught.value) == f"{path}:2: {message}; give another --out, or --overwrite to start again"
    assert path.read_bytes() == content


def test_an_error_of_a_bundle_is_one_of_the_clip(tmp_path):
    failed = score(ITEMS[0], mi=None, ta=None, scores={}, windows=0, error="too long")
    (tmp_path / "s.jsonl").write_bytes(line_of_several(ITEMS[0], failed))
    with pytest.raises(DataError, match=r":1: 'a' has .*error.*; give another --out, or --overwrite to start again$"):
        resume(tmp_path / "s.jsonl", ITEMS, SEVERAL)


@pytest.mark.parametrize(
    "value", [{"mi": "3"}, {"windows": -1}, {"heard": [2, 1]}, {"warnings": [1]}, {"scores": {"x": True}}, {"x": 1}]
)
def test_what_one_of_several_bundles_says_has_the_keys_and_values_of_a_line(tmp_path, value):
    (tmp_path / "s.jsonl").write_bytes(edited(ITEMS[0], of_second(**value)))
    with pytest.raises(DataError, match=r":1: 'a' has the bundles \{.*, expected an object of scores by the bundle's"):
        resume(tmp_path / "s.jsonl", ITEMS, SEVERAL)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file with one of the things that a person, a program or a disk may do to it."""
    lines = content.splitlines(keepends=True)
    at, place = chance.randrange(len(lines)), chance.randrange(len(content))
    return chance.choice([
        content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1:],
        content[:place],
        content[:place] + content[place + chance.randrange(1, 400):],
        b"".join([*lines[:at], b"\n", *lines[at:]]),
        b"".join([*lines[:at], *lines[at + 1:]]),
        b"".join([*lines[:at], lines[0], *lines[at:]]),
        b"".join([*lines[:at], lines[at].replace(b"\n", b"\r\n"), *lines[at + 1:]]),
        b"".join([*lines[:at], lines[at].replace(b": ", b":"), *lines[at + 1:]]),
        content + bytes(chance.randrange(1, 50)),
    ])  # fmt: skip


def test_many_lines_at_once_are_read_as_one_by_one(tmp_path, monkeypatch):
    """The same lines are done, the same is left of the file, and the same line is named."""
    chance, path = random.Random(11), tmp_path / "s.jsonl"
    items = [Item(f"{number}", Path(f"m/{number}.wav"), "x") for number in range(60)]
    failed = {"mi": None, "ta": None, "error": "no such file", "windows": 0}
    content = b"".join(line(item, **(failed if chance.random() < 0.1 else {})) for item in items)
    outcomes = Counter()
    content_of_several = b"".join(line_of_several(item) for item in items)
    for number in range(300):
        made_by = SEVERAL if number % 3 == 0 else None
        changed = damaged(content_of_several if made_by else content, chance)
        found = []
        for batch in (1, 4000, 1 << 20):
            monkeypatch.setattr(resumable, "_BATCH", batch)
            path.write_bytes(changed)
            try:
                found.append((list(resume(path, items, made_by).items()), path.read_bytes()))
            except (DataError, OutputExistsError) as error:
                found.append((str(error), path.read_bytes()))
        assert found[0] == found[1] == found[2]
        outcomes["refused" if isinstance(found[0][0], str) else "resumed", made_by is None] += 1
    assert len(outcomes) == 4 and min(outcomes.values()) > 25, outcomes


def test_what_is_read_of_a_large_file_is_not_held(tmp_path):
    """Beyond the ids: lines of megabytes are let go."""
    path = tmp_path / "s.jsonl"
    items = [Item(f"{number}", Path(f"m/{number}.wav"), "x" * 100_000) for number in range(200)]
    path.write_bytes(b"".join(map(line, items)))
    tracemalloc.start()
    try:
        with score_file(path, overwrite=False) as file:
            file.resume(items, entries(), names(entries()), lambda _row: None)
        assert tracemalloc.get_traced_memory()[1] < 3e6 < path.stat().st_size / 6
    finally:
        tracemalloc.stop()


# Kills

# Nothing here loads torch, which takes seconds.
WRITER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
from pathlib import Path
from audiomos_cache.scoring.inputs import Item
from audiomos_cache.scoring.lines import to_line
from audiomos_cache.scoring.results import Score
from audiomos_cache.scoring.resumable import score_file

items = [Item(f"{number}", Path(f"{number}.wav"), "slow piano " * 500) for number in range(200)]
entries = {"model": {"name": "model", "digest": "ab" * 16, "windows": "whole", "licence": "mit"}}
with score_file(Path(sys.argv[1]), overwrite=False) as file:
    done = file.resume(items, entries, {"model": ["mi", "ta"]}, id) if file.holds_lines() else {}
    print(len(done), flush=True)
    for item in items:
        if item.id not in done:
            made = Score(item.id, str(item.path), item.prompt, 3.0, 2.0, scores={"mi": 3.0, "ta": 2.0})
            file.write(to_line(made, entries))
            time.sleep(0.001)
"""


@pytest.mark.process
@pytest.mark.xdist_group("kills")
def test_killed_again_and_again_nothing_that_was_written_is_lost(tmp_path):
    path, moments, kills, done = tmp_path / "s.jsonl", random.Random(3), 0, []
    while len(done) < 200:
        with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as process:
            assert int(process.stdout.readline()) == len(done)
            ends = (signal.SIGKILL, signal.SIGINT)[kills % 2] if kills < 4 else 0
            if ends:
                time.sleep(moments.uniform(0.01, 0.06))
                process.send_signal(ends)
                kills += 1
            assert process.wait() == -ends
        before, done = done, [row["id"] for row in read(path)]
        assert done[: len(before)] == before
        assert len(done) > len(before)
    assert kills == 4
    assert done == [str(number) for number in range(200)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda row: row["scores"].pop("ta"),
            "scores of mi, mi_spread, ta_spread, expected mi, ta, mi_spread, ta_spread",
        ),
        (
            lambda row: row["scores"].update(x=1),
            "scores of mi, ta, mi_spread, ta_spread, x, expected mi, ta, mi_spread",
        ),
        (lambda row: row.update(mi=None), "the mi None, and 3.25 in its scores"),
        (lambda row: row.update(mi=99), "the mi 99, and 3.25 in its scores"),
        (lambda row: row["scores"].update(ta=1), "the ta 2.5, and 1 in its scores"),
    ],
)
def test_the_values_of_a_line_are_those_that_the_bundle_gives(change, problem, tmp_path):
    path = tmp_path / "s.jsonl"
    row = json.loads(line(ITEMS[0]))
    change(row)
    path.write_bytes(line(ITEMS[1]) + row_to_line(row))
    with pytest.raises(DataError, match=rf"^{path}:2: 'a' has {problem}"):
        resume(path)
    row = json.loads(line_of_several(ITEMS[0]))
    change(row["bundles"]["model"])
    path.write_bytes(line_of_several(ITEMS[1]) + row_to_line(row))
    with pytest.raises(DataError, match=rf"^{path}:2: 'a' has {problem}"):
        resume(path, made_by=SEVERAL)
