"""The failure cases of a cache, each with the tests in which it happens; those that no other file has are here.

What a failure must lead to: nothing that was finished is lost, nothing wrong is ever read, and one line that names the
item, what was found, and what to do.
"""

import ctypes
import errno
import fcntl
import multiprocessing
import os
import re
import sys
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.format import COLUMNS
from audiomos_cache.cache.maintenance import merge
from audiomos_cache.cache.parts import PartWriter
from audiomos_cache.cache.paths import Shard, part_files
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import AudiomosError, CacheError
from audiomos_cache.extraction import extract_split as extract_split_module
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.testing.fakes import FakeTextEncoder
from tests.support.cache import rebuild
from tests.support.extraction import PAD, LoggingEncoder, make_clips
from tests.support.faults import content

TESTS = Path(__file__).parents[1]

# Failure -> where it happens in a test.
CASES = {
    "killed at any moment": (
        "test_killed_again_and_again_it_ends_with_the_same_bytes",
        "test_any_shards_parts_and_kills_give_the_same_bytes",
        "test_killed_while_several_files_are_published",
        "test_killed_while_a_file_is_succeeded_by_one_with_more_clips",
        "test_a_repair_killed_while_it_saves_whole_clips_can_be_repeated",
    ),
    "power cut": (
        "test_everything_is_on_the_disk_before_it_gets_its_name",
        "test_several_files_are_all_on_the_disk_before_the_first_gets_its_name",
    ),
    "second writer": (
        "test_second_process_is_refused_until_the_first_dies",
        "test_who_may_write_beside_whom",
        "test_a_second_extraction_of_the_split_is_refused",
    ),
    "a published file is written to": (
        "test_an_existing_file_is_never_written_to",
        "test_publish_never_overwrites",
    ),
    "disk full, quota, file too large": (
        "test_a_full_disk_is_foreseen",
        "test_a_disk_that_fills_up_or_fails_keeps_what_is_done",
        "test_a_full_disk_is_named_and_leaves_nothing",
        "test_a_disk_that_fails_at_any_call_leaves_nothing",
    ),
    "the disk fails": (
        "test_a_disk_that_fails_to_sync_once",
        "test_a_part_that_cannot_be_written_is_not_acknowledged",
        "test_a_disk_that_cannot_be_forced_is_named",
        "test_what_the_disk_does_not_give_back_is_not_published",
        "test_a_disk_that_fails_while_reading_is_named_with_the_clip",
    ),
    "flipped bit": (
        "test_no_flip_is_silent",
        "test_flipped_bit_in_a_feature_names_the_clip_or_prompt",
        "test_every_damaged_item_is_listed_by_name",
        "test_repair_encodes_only_what_was_lost_and_ends_with_the_same_bytes",
    ),
    "truncated, also while being read": (
        "test_truncated",
        "test_truncated_after_it_was_opened",
        "test_a_file_that_shrinks_while_it_is_read",
    ),
    "clip that was never written": (
        "test_a_part_is_a_whole_cache_file_that_is_not_complete",
        "test_no_such_split",
        "test_a_shard_leaves_parts_and_its_lock",
    ),
    "missing shard or file": (
        "test_a_shard_is_missing",
        "test_one_of_several_files_is_missing",
        "test_verify_of_a_split_that_lacks_a_file",
    ),
    "another fingerprint": (
        "test_another_fingerprint_names_the_first_difference",
        "test_other_fingerprints",
        "test_files_of_different_caches",
        "test_another_fingerprint_is_refused",
    ),
    "index that contradicts itself": (
        "test_shapes_that_contradict_each_other",
        "test_values_that_contradict_other_arrays",
        "test_other_type",
        "test_an_id_twice",
        "test_a_clip_in_two_files_of_a_split",
    ),
    "NaN or too many frames": (
        "test_nan_features_are_named",
        "test_nan_prompt_features_are_named",
        "test_valid_frames_of_a_padded_clip",
        "test_frames_that_were_not_encoded_are_not_written",
    ),
    "reader in other processes": (
        "test_forked",
        "test_a_reader_in_other_processes",
    ),
    "hostile file": (
        "test_external_link",
        "test_soft_link_and_missing_array_and_group",
        "test_other_storage_than_plain_bytes",
        "test_array_that_claims_more_than_the_file",
        "test_a_hostile_file_costs_no_memory_and_opens_no_other",
    ),
    "replaced under a reader": (
        "test_a_reader_reads_on_what_was_replaced",
        "test_replaced_after_the_first_read",
        "test_a_reader_while_its_split_is_extracted_anew",
    ),
    "no locks": (
        "test_a_filesystem_without_locks_is_said_to_be_unsure",
        "test_extraction_without_locks",
        "test_shards_without_locks",
    ),
    "left-over temporary files and locks": (
        "test_what_was_half_written_is_removed_and_nothing_else",
        "test_a_shard_clears_what_it_left_half_written_and_nothing_else",
        "test_what_a_killed_run_left_half_written_is_not_read",
    ),
    "newer format": ("test_newer_format",),
}


@lru_cache
def all_tests():
    """The names of all tests, wherever they are."""
    texts = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    return {name for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)}


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_tests(case):
    assert [name for name in CASES[case] if name not in all_tests()] == []


@pytest.fixture
def clips(tmp_path):
    return make_clips(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def extract(clips, cache, options=PAD, audio=None):
    return extract_split(clips, cache, audio or LoggingEncoder(), FakeTextEncoder(), options)


@pytest.mark.parametrize("number", range(1, 13))
def test_a_disk_that_fails_to_sync_once(clips, cache, tmp_path, monkeypatch, number):
    """The system reports it once; a second try would succeed, though the content is lost."""
    monkeypatch.setattr(extract_split_module, "PartWriter", partial(PartWriter, clips_per_part=3))
    syncs, later, at_failure = [], [], {}
    with monkeypatch.context() as patch:
        fsync = os.fsync

        def fail_once(descriptor):
            syncs.append(descriptor)
            if len(syncs) == number:
                at_failure.update(content(cache))
                for call in ("pwrite", "link", "rename", "fsync"):
                    patch.setattr(os, call, lambda *_, call=call: later.append(call))
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(descriptor)

        patch.setattr(os, "fsync", fail_once)
        with pytest.raises(
            AudiomosError, match=rf"{cache}\S*: Input/output error; check the disk and run the command aga"
        ):
            extract(clips, cache)
    assert later == []
    kept = content(cache)
    assert {name for name in at_failure if name.endswith(".h5")} == {name for name in kept if name.endswith(".h5")}
    assert all(kept[name] == at_failure[name] for name in kept)
    acknowledged = {clip_id for path in cache.rglob("*.h5") for clip_id in CacheFile(path).ids}
    assert extract(clips, cache).encoded == 10 - len(acknowledged)
    extract(clips, tmp_path / "expected")
    assert content(cache) == content(tmp_path / "expected")


def test_that_was_every_sync(clips, cache, monkeypatch):
    """Of the folder, of four parts and their names, of the file and its name, of the folder without parts."""
    monkeypatch.setattr(extract_split_module, "PartWriter", partial(PartWriter, clips_per_part=3))
    fsync, syncs = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda descriptor: syncs.append(fsync(descriptor)))
    extract(clips, cache)
    assert len(syncs) == 12


def readings_of(reader):
    """All that can be asked of a reader, each as a function."""
    indices = range(len(reader))
    columns = [partial(reader.files[0].column, name) for name in COLUMNS]
    frames = [partial(reader.read_frames, index, padding=True) for index in indices]
    return [*columns, *frames, *(lambda index=index: reader.read_prompt(index).tokens for index in indices)]


@pytest.mark.parametrize("grown_again", [False, True], ids=["shorter", "ends in zeros"])
def test_a_file_that_shrinks_while_it_is_read(path, grown_again):
    expected = [read().tobytes() for read in readings_of(CacheReader(path.parent, "train"))]
    raw = path.read_bytes()
    outcomes = []
    for size in range(0, len(raw), 997):
        reader = CacheReader(path.parent, "train")
        os.truncate(path, size)
        if grown_again:
            os.truncate(path, len(raw))
        for read, whole in zip(readings_of(reader), expected, strict=True):
            try:
                assert read().tobytes() == whole, size
                outcomes.append(True)
            except CacheError as error:
                assert re.match(f"{path}(, (/|clip |prompt )|: the index does not match its hash)", str(error)), size
                outcomes.append(False)
        path.write_bytes(raw)
    assert 0.2 < np.mean(outcomes) < 0.8


def test_a_clip_in_two_files_of_a_split(sample, tmp_path):
    """Two files, each of which is valid by itself."""
    sample.header = replace(sample.header, file_count=2)
    sample.write(tmp_path / "train-00000.h5")
    sample.header = replace(sample.header, file_index=1)
    sample.write(tmp_path / "train-00001.h5")
    reader = CacheReader(tmp_path, "train")
    with pytest.raises(CacheError, match=r"split 'train' has a clip in two of its files; extract it again"):
        _ = reader.ids


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_in_other_processes(sample, path, method):
    """Two of them and this one read at the same time, from one reader that was used before."""
    reader = CacheReader(path.parent, "train")
    reader.read_frames(1)
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        waiting = [pool.submit(reader.read_frames, i % 3, padding=True) for i in range(60)]
        prompts = [pool.submit(reader.read_prompt, i) for i in range(3)]
        ids = pool.submit(getattr, reader, "ids")
        for i in range(300):
            np.testing.assert_array_equal(reader.read_frames(i % 3, padding=True), sample.frames[i % 3][0], strict=True)
        for i, found in enumerate(waiting):
            np.testing.assert_array_equal(found.result(60), sample.frames[i % 3][0], strict=True)
        assert [found.result(60).text for found in prompts] == [clip.prompt for clip in sample.clips]
        assert ids.result(60) == [clip.id for clip in sample.clips]


def test_a_reader_while_its_split_is_extracted_anew(clips, cache):
    """The old reader goes on with what it opened, a new one has the new features."""
    extract(clips, cache)
    old = CacheReader(cache, "train")
    before = [old.read_frames(i) for i in range(10)]
    extract(clips, cache, replace(PAD, overwrite=True, pad_to_s=0.5))
    assert [old.read_frames(i).tobytes() for i in range(10)] == [frames.tobytes() for frames in before]
    assert old.read_prompt(3).text == clips[3].prompt
    new = CacheReader(cache, "train")
    assert new.fingerprint != old.fingerprint
    assert [len(new.read_frames(i)) for i in range(10)] == [min(5, 3 + 2 * (i % 3)) for i in range(10)]


# Files that mean harm.


def external_link(secret, file, name, _array):
    file[name] = h5py.ExternalLink(secret, f"/{name}")


def soft_link(secret, file, name, _array):
    file["elsewhere"] = h5py.ExternalLink(secret, f"/{name}")
    file[name] = h5py.SoftLink("/elsewhere")


def external_storage(secret, file, name, array):
    file.create_dataset(name, array.shape, array.dtype, external=[(secret, 0, array.nbytes)])


def virtual(secret, file, name, array):
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[:] = h5py.VirtualSource(secret, name, array.shape)
    file.create_virtual_dataset(name, layout)


def compressed(_secret, file, name, array):
    """Some kilobytes of zeros that would become 64 MiB."""
    shape = (-(-(1 << 26) // array[0].nbytes), *array.shape[1:])
    file.create_dataset(name, shape, array.dtype, chunks=shape, compression="gzip", fillvalue=0)
    file[name][:1] = 0


def chunked(_secret, file, name, array):
    file.create_dataset(name, (1 << 36, *array.shape[1:]), array.dtype, chunks=(1, *array.shape[1:]))


def big_endian(_secret, file, name, array):
    file[name] = array.astype(array.dtype.newbyteorder(">"))


def other_type(_secret, file, name, array):
    file[name] = np.zeros(array.shape, "c16")


def without_end(_secret, file, name, array):
    """512 GiB and more, of which none is there."""
    file.create_dataset(name, (1 << 38, *array.shape[1:]), array.dtype)


def without_end_in_64_bits(_secret, file, name, array):
    """So many bytes that their number overflows."""
    file.create_dataset(name, ((1 << 63) // array.itemsize, *[1] * (array.ndim - 1)), array.dtype)


HARM = (external_link, soft_link, external_storage, virtual, compressed, chunked, big_endian, other_type, without_end,
        without_end_in_64_bits)  # fmt: skip


@contextmanager
def watched(path):
    """Give a function that says whether a file was opened since, by whatever code."""
    library, opened = ctypes.CDLL(None), 0x20
    descriptor = library.inotify_init1(os.O_NONBLOCK)

    def was_opened():
        try:
            return bool(os.read(descriptor, 4096))
        except BlockingIOError:
            return False

    try:
        assert library.inotify_add_watch(descriptor, os.fsencode(path), opened) > 0
        yield was_opened
    finally:
        os.close(descriptor)


@contextmanager
def memory_below(limit):
    """Fail where a block takes more memory than that, be it Python's or a library's."""

    def peak():
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = peak()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
        assert peak() - before < limit
    finally:
        tracemalloc.stop()


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports who opens a file and its memory")


@LINUX
@pytest.mark.parametrize("name", ["audio/frames", "clips/mi"])
@pytest.mark.parametrize("harm", HARM)
def test_a_hostile_file_costs_no_memory_and_opens_no_other(sample, path, tmp_path, harm, name):
    secret = sample.write(tmp_path / "secret.h5")  # just what is expected, where it is followed
    rebuild(path, special={name: partial(harm, str(secret))})
    assert path.stat().st_size < 1 << 20
    message = rf"^{path}: /{name} .*; the file is damaged or not ours; extract --repair encodes again what was lost$"
    with watched(secret) as was_opened:
        with memory_below(16 << 20), pytest.raises(CacheError, match=message):
            CacheFile(path)
        with pytest.raises(CacheError, match=message):
            CacheReader(path.parent, "train")
        assert not was_opened()
        if harm in (external_link, soft_link, external_storage, virtual):  # they work, where they are not refused
            with h5py.File(path) as file:
                _ = file[name][:1]
            assert was_opened()


@LINUX
@pytest.mark.parametrize("name", ["split", "format", "columns_json", "unknown"])
def test_a_huge_attribute_is_not_loaded(path, name):
    """HDF5 would, as soon as it is asked whether there is one of the name."""
    rebuild(path)
    with h5py.File(path, "r+", libver=("v108", "latest")) as file:
        if name in file.attrs:
            del file.attrs[name]
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(64 << 20)
        h5py.h5a.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    message = (
        rf"^{path}: its attributes take \d+ bytes, expected at most 4194304; the file is damaged or not ours; extr"
    )
    with memory_below(16 << 20), pytest.raises(CacheError, match=message):
        CacheFile(path)


# Network filesystems without locks.


@pytest.fixture
def no_locks(monkeypatch):
    def flock(_file, _operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


WARNING = (
    "split 'train' is being written without a lock, as this filesystem has none; make sure that no other process does "
    "the same"
)


@pytest.mark.usefixtures("no_locks")
def test_extraction_without_locks(clips, cache, tmp_path, caplog):
    """It works, says so, and leaves alone what may be another process's."""
    others = {"train.h5.whole.other-12.part", "train.parts/a.h5.whole.other-12.part"}
    (cache / "train.parts").mkdir(parents=True)
    for name in others:
        (cache / name).write_bytes(b"another's")
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, audio=LoggingEncoder(fails_at=2))
    assert {name for name in content(cache) if name.endswith(".part")} == others
    assert [record.getMessage() for record in caplog.records] == [f"{cache}: {WARNING}"]
    extract(clips, cache)
    assert (cache / "train.h5.whole.other-12.part").read_bytes() == b"another's"
    extract(clips, tmp_path / "expected")
    assert (cache / "train.h5").read_bytes() == (tmp_path / "expected" / "train.h5").read_bytes()
    assert CacheReader(cache, "train").ids == [clip.id for clip in clips]


def test_shards_without_locks(clips, cache, tmp_path, request):
    """Nobody can know who is the last, so nobody writes the file until an extraction of the whole does."""
    extract(clips, tmp_path / "expected")
    request.getfixturevalue("no_locks")
    summaries = [extract(clips, cache, replace(PAD, shard=Shard(index, 2))) for index in (1, 2)]
    assert [(summary.clips, summary.missing, summary.files) for summary in summaries] == [(6, 4, []), (10, 0, [])]
    assert len(part_files(cache, "train")) == 2
    (tmp_path / "merged").mkdir()
    other = tmp_path / "merged" / "train.h5.whole.other-12.part"
    other.write_bytes(b"another's")
    merge([cache], tmp_path / "merged")
    assert other.read_bytes() == b"another's"
    expected = (tmp_path / "expected" / "train.h5").read_bytes()
    assert (tmp_path / "merged" / "train.h5").read_bytes() == expected
    assert extract(clips, cache).encoded == 0
    assert (cache / "train.h5").read_bytes() == expected
