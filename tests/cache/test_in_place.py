"""A split's file that is filled while its clips are encoded: the same bytes, and nothing lost where it does not end."""

import errno
import os
import re
from dataclasses import replace
from functools import partial

import pytest

from audiomos_cache.cache import file_writer, in_place, parts, publish
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.parts import PartWriter
from audiomos_cache.cache.paths import Shard, part_files
from audiomos_cache.cache.verify import verify_split
from audiomos_cache.errors import CacheError, DataError
from audiomos_cache.extraction import extract_split
from audiomos_cache.testing.fakes import FakeAudioEncoder
from tests.support.extraction import BOTH, PAD, LoggingEncoder, clean_bytes, extract, make_clips

IN_PLACE = replace(PAD, in_place=True)


@pytest.fixture
def clips(tmp_path):
    return make_clips(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def files(monkeypatch):
    """The names of all files that are made, without the names of processes."""
    made = []
    original = os.open

    def opened(path, flags, *arguments, **others):
        if flags & os.O_CREAT and str(path).endswith(".part"):
            made.append(re.sub(r"\.whole\..*", "", os.path.basename(path)))  # noqa: PTH119
        return original(path, flags, *arguments, **others)

    monkeypatch.setattr(os, "open", opened)
    return made


@pytest.fixture
def part_after(monkeypatch):
    """Publish a part after so many bytes of features."""
    return lambda count: monkeypatch.setattr(parts, "IN_PLACE_BYTES_PER_PART", count)


def left_over(cache):
    return [path for path in cache.rglob("*") if path.name.endswith(".part")]


@BOTH
@pytest.mark.parametrize("layers", [(0,), (0, 3)])
def test_the_same_bytes_written_once(clips, cache, tmp_path, options, layers, files):
    extract(clips, tmp_path / "plain", options, FakeAudioEncoder(layers=layers))
    expected = (tmp_path / "plain" / "train.h5").read_bytes()
    files.clear()
    summary = extract(clips, cache, replace(options, in_place=True), FakeAudioEncoder(layers=layers))
    assert files == ["train.h5"]
    assert (cache / "train.h5").read_bytes() == expected
    assert (summary.clips, summary.encoded, summary.missing) == (10, 10, 0)
    assert summary.files == [cache / "train.h5"]
    assert sorted(path.name for path in cache.iterdir()) == ["train.h5", "train.lock"]
    assert not any(report.damaged for report in verify_split(cache, "train"))


def test_it_is_left_to_gpus_unless_it_is_asked_for(clips, cache, files):
    extract(clips, cache)
    assert files[0] != "train.h5"


@BOTH
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_interrupt_keeps_what_is_encoded(clips, cache, tmp_path, options, batches):
    expected = clean_bytes(clips, tmp_path / "clean", options)
    options = replace(options, in_place=True)
    audio = LoggingEncoder(fails_at=batches)
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, options, audio)
    kept = [clip_id for part in part_files(cache, "train") for clip_id in CacheFile(part).ids]
    assert len(kept) == len(set(kept)) == sum(map(len, audio.batches))
    assert not (cache / "train.h5").exists()
    assert left_over(cache) == []
    assert extract(clips, cache, options).encoded == 10 - len(kept)
    assert (cache / "train.h5").read_bytes() == expected
    assert not (cache / "train.parts").exists()


def test_parts_come_in_time_and_go_once_the_file_is_whole(clips, cache, tmp_path, files, part_after):
    """A batch of padded clips takes 3 x 10 x 4 x 2 bytes: a part after every other one."""
    expected = clean_bytes(clips, tmp_path / "clean")
    files.clear()
    part_after(2 * 240)
    extract(clips, cache, IN_PLACE)
    assert [name for name in files if name == "train.h5"] == ["train.h5"]
    assert len(files) == 2  # the second part would hold what the file is about to hold
    assert (cache / "train.h5").read_bytes() == expected
    assert not (cache / "train.parts").exists()


def test_a_part_after_so_many_seconds(clips, cache, monkeypatch, files):
    monkeypatch.setattr(extract_split, "PartWriter", partial(PartWriter, seconds_per_part=0.0))
    extract(clips, cache, IN_PLACE)
    assert len(files) == 1 + 4


@pytest.mark.process
def test_a_kill_leaves_parts_and_what_is_cleared_away(clips, cache, tmp_path, part_after):
    """Of a process that ends without a word after its second batch, while the file is half filled."""
    expected = clean_bytes(clips, tmp_path / "clean")
    part_after(1)
    pid = os.fork()
    if not pid:
        try:
            audio = LoggingEncoder(seconds_per_batch=0.1)
            encode = audio.encode
            audio.encode = lambda waveforms: os._exit(3) if len(audio.batches) == 2 else encode(waveforms)
            extract(clips, cache, IN_PLACE, audio)
        finally:
            os._exit(4)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert not (cache / "train.h5").exists()
    done = [clip_id for part in part_files(cache, "train") for clip_id in CacheFile(part).ids]
    assert left_over(cache) != []
    assert extract(clips, cache, IN_PLACE).encoded == 10 - len(done)
    assert left_over(cache) == []
    assert (cache / "train.h5").read_bytes() == expected


@BOTH
def test_a_skipped_clip_takes_the_way_of_parts(clips, cache, tmp_path, options):
    skip = replace(options, on_error="skip")
    clips[7].path.write_bytes(b"")
    extract(clips, tmp_path / "plain", skip)
    summary = extract(clips, cache, replace(skip, in_place=True))
    assert (summary.encoded, len(summary.skipped)) == (9, 1)
    assert (cache / "train.h5").read_bytes() == (tmp_path / "plain" / "train.h5").read_bytes()
    assert left_over(cache) == []


def test_a_bad_clip_stops_and_keeps_what_is_done(clips, cache, tmp_path):
    expected = clean_bytes(clips, tmp_path / "clean")
    good = clips[7].path.read_bytes()
    clips[7].path.write_bytes(b"")
    with pytest.raises(DataError, match="empty file"):
        extract(clips, cache, IN_PLACE)
    assert left_over(cache) == []
    clips[7].path.write_bytes(good)
    assert extract(clips, cache, IN_PLACE).encoded == 4
    assert (cache / "train.h5").read_bytes() == expected


def test_a_header_that_misleads(clips, cache, tmp_path, monkeypatch):
    """A clip with other frames than its header promised does not fit in the planned file."""
    options = replace(PAD, pad_to_s=None)
    expected = clean_bytes(clips, tmp_path / "clean", options)
    from audiomos_cache.extraction import batching as waveforms

    monkeypatch.setattr(waveforms, "decoded_length", lambda *_: 300)
    extract(clips, cache, replace(options, in_place=True))
    assert (cache / "train.h5").read_bytes() == expected
    assert left_over(cache) == []


@pytest.mark.parametrize("what", ["done", "shard", "large"])
def test_where_not_all_of_one_file_is_to_be_encoded(clips, cache, tmp_path, files, monkeypatch, what):
    expected = clean_bytes(clips, tmp_path / "clean")
    if what == "done":
        extract(clips[:4], cache)
    files.clear()
    if what == "large":
        monkeypatch.setattr(extract_split, "BYTES_PER_FILE", 10 * 10 * 4 * 2 - 1)
    extract(clips, cache, replace(IN_PLACE, shard=Shard(1, 1)) if what == "shard" else IN_PLACE)
    assert files[0] != "train.h5"
    assert (cache / "train.h5").read_bytes() == expected


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("posix_fallocate", errno.ENOSPC, "No space left on device, 0.000 GB needed; free some"),
        ("pwrite", errno.EIO, "Input/output error; check the disk"),
        ("fsync", errno.EIO, "Input/output error; check the disk"),
    ],
)
def test_a_disk_that_is_full_or_fails(clips, cache, tmp_path, monkeypatch, call, code, message):
    expected = clean_bytes(clips, tmp_path / "clean")

    def fails(*_arguments):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(CacheError, match=re.escape(f".part: {message} and run the command again")):
            extract(clips, cache, IN_PLACE)
    assert not (cache / "train.h5").exists()
    assert left_over(cache) == []
    extract(clips, cache, IN_PLACE)
    assert (cache / "train.h5").read_bytes() == expected


def test_a_disk_that_failed_behind_is_not_forgotten(clips, cache, monkeypatch):
    """The system says once that what was written did not reach the disk: to the thread that forces it there."""
    monkeypatch.setattr(in_place, "SECONDS_BETWEEN_SYNCS", 0.001)
    original, calls = os.fsync, []

    def once(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", once)
    with pytest.raises(CacheError, match="Input/output error; check the disk"):
        extract(clips, cache, IN_PLACE, LoggingEncoder(seconds_per_batch=0.02))
    assert not (cache / "train.h5").exists()
    assert left_over(cache) == []


@pytest.mark.parametrize("where", ["fsync", "verify_file", "publish"])
def test_an_interrupt_at_the_very_end_keeps_all(clips, cache, tmp_path, monkeypatch, where):
    """While the file is forced to the disk, read back, or named: its clips are in a part then."""
    expected = clean_bytes(clips, tmp_path / "clean")
    calls = []

    def interrupted(*arguments, **others):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(*arguments, **others)

    owner = {"fsync": os, "verify_file": publish, "publish": publish.paths}[where]
    original = getattr(owner, where)
    monkeypatch.setattr(in_place, "SECONDS_BETWEEN_SYNCS", 60.0)
    monkeypatch.setattr(owner, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, IN_PLACE)
    monkeypatch.undo()
    assert left_over(cache) == []
    assert extract(clips, cache, IN_PLACE).encoded == 0
    assert (cache / "train.h5").read_bytes() == expected


def test_what_the_disk_does_not_give_back_is_not_published(clips, cache, monkeypatch):
    original = publish.verify_file

    def damaged(path, **others):
        with path.open("r+b") as file:
            file.seek(-3, os.SEEK_END)
            file.write(b"\xff\xff\xff")
        return original(path, **others)

    monkeypatch.setattr(publish, "verify_file", damaged)
    with pytest.raises(CacheError, match="reads back differently from what was written"):
        extract(clips, cache, IN_PLACE)
    assert not (cache / "train.h5").exists()


@pytest.mark.parametrize("clip", [0, 9])
@pytest.mark.parametrize("pause", [0.001, 60.0], ids=["during the writing", "at the end"])
def test_frames_that_do_not_come_back_are_named(clips, cache, monkeypatch, clip, pause):
    """A bit of one clip's frames turns over on the disk; the thread that reads them back sees it, or the last look."""
    monkeypatch.setattr(in_place, "SECONDS_BETWEEN_SYNCS", pause)
    original = file_writer.NewFile.write_clip

    def write_clip(file, index, record, rows):
        original(file, index, record, rows)
        if index == clip:
            turned = rows[:, :1].copy()
            turned.view("u2")[:] ^= 1
            original_check = file_writer._check_frames
            monkeypatch.setattr(file_writer, "_check_frames", lambda *_: None)
            original(file, index, record, turned)
            monkeypatch.setattr(file_writer, "_check_frames", original_check)

    monkeypatch.setattr(file_writer.NewFile, "write_clip", write_clip)
    message = f"clip {clips[clip].id}: reads back differently from what was written; check the disk"
    with pytest.raises(CacheError, match=re.escape(message)):
        extract(clips, cache, IN_PLACE, LoggingEncoder(seconds_per_batch=0.02))
    assert not (cache / "train.h5").exists()
    assert left_over(cache) == []
