import errno
import os
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import CacheError

OPEN = Path("/proc/self/fd")


def test_frames_go_into_a_buffer_of_the_caller(sample, path):
    file = CacheFile(path)
    buffer = np.full((7, 3), 9, "f2")
    found = file.read_frames(0, buffer, padding=True)
    assert np.shares_memory(found, buffer)
    np.testing.assert_array_equal(found, sample.frames[0][0], strict=True)
    np.testing.assert_array_equal(buffer[5:], 9)
    found = file.read_frames(0, buffer)
    np.testing.assert_array_equal(found, sample.frames[0][0, :3], strict=True)
    np.testing.assert_array_equal(buffer[:5], sample.frames[0][0])


@pytest.mark.parametrize(
    ("buffer", "found"),
    [
        (np.empty((5, 3), "f4"), "float32 (5, 3)"),
        (np.empty((5, 4), "f2"), "float16 (5, 4)"),
        (np.empty((4, 3), "f2"), "float16 (4, 3)"),
        (np.empty(15, "f2"), "float16 (5,)"),
        (np.empty((3, 5), "f2").T, "float16 (5, 3)"),
    ],
)
def test_another_buffer_is_refused(path, buffer, found):
    message = f"out is {found}, expected contiguous float16 (5, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        CacheFile(path).read_frames(0, buffer, padding=True)


def test_one_of_several_layers_is_named(sample, tmp_path):
    path = sample.with_layers(0, 6, 12).write(tmp_path / "train.h5")
    file, reader = CacheFile(path), CacheReader(str(tmp_path), "train")
    assert file.header.layers == reader.layers == (0, 6, 12)
    for which, layer in enumerate((0, 6, 12)):
        for source in (file, reader):
            np.testing.assert_array_equal(source.read_frames(0, layer=layer), sample.frames[0][which, :3], strict=True)
    for source in (file, reader):
        with pytest.raises(CacheError, match=r"train\.h5: no layer was requested, expected one of 0, 6, 12$"):
            source.read_frames(0)
        with pytest.raises(CacheError, match=r"train\.h5: layer 5 is not stored, expected one of 0, 6, 12$"):
            source.read_frames(0, layer=5)


def test_the_only_layer_need_not_be_named(sample, path):
    file = CacheFile(path)
    for layer in (None, 12):
        np.testing.assert_array_equal(file.read_frames(0, layer=layer), sample.frames[0][0, :3], strict=True)
    with pytest.raises(CacheError, match=r"train\.h5: layer 11 is not stored, expected one of 12$"):
        file.read_frames(0, layer=11)


def test_damage_in_one_of_several_layers(sample, tmp_path):
    path = sample.with_layers(0, 6, 12).write(tmp_path / "train.h5")
    with h5py.File(path, "r") as file:
        offset = file["audio/frames_6"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)
    file = CacheFile(path)
    with pytest.raises(
        CacheError, match="clip audiomos2025-track1-S001_P001: the stored frames do not match their has"
    ):
        file.read_frames(0, layer=6)
    np.testing.assert_array_equal(file.read_frames(0, layer=12), sample.frames[0][2, :3], strict=True)
    np.testing.assert_array_equal(file.read_frames(1, layer=6), sample.frames[1][1], strict=True)


def truncate_in_the_features(path):
    with h5py.File(path, "r") as file:
        offset = file["audio/frames"].id.get_offset()
    os.truncate(path, offset + 4)


@pytest.mark.parametrize("keep_open", [False, True])
def test_truncated_after_it_was_opened(path, keep_open):
    """What was read before is known; everything else is missing, and named."""
    file = CacheFile(path, keep_open=keep_open)
    assert len(file.ids) == 3
    file.read_frames(2)
    file.read_prompt(1)
    truncate_in_the_features(path)
    for index, clip_id in enumerate(file.ids):
        with pytest.raises(
            CacheError, match=rf"train.h5, clip {clip_id}: the file ends before it; the file is damaged"
        ):
            file.read_frames(index)
    with pytest.raises(CacheError, match=r"prompt 'B': the file ends before it; the file is damaged"):
        file.read_prompt(1)
    with pytest.raises(
        CacheError, match=r"train.h5, /clips/padding_hash: the file ends before it; the file is damaged"
    ):
        file.column("clips/padding_hash")


def test_truncated_before_the_first_read(path):
    file = CacheFile(path)
    truncate_in_the_features(path)
    with pytest.raises(CacheError, match=r"train.h5, clip 1 of 3: the file ends before it; the file is damaged or"):
        file.read_frames(0)


@pytest.mark.parametrize("keep_open", [False, True])
def test_a_disk_that_fails_while_reading_is_named_with_the_clip(path, monkeypatch, keep_open):
    file = CacheFile(path, keep_open=keep_open)
    assert len(file.ids) == 3
    file.read_frames(0)

    def preadv(_descriptor, _buffers, _position):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(CacheError, match=r"train\.h5, clip S002_P099: cannot be read \(Input/output error\); the file"):
        file.read_frames(1)
    with pytest.raises(CacheError, match=r"train\.h5, /clips/mi: cannot be read \(Input/output error\); the file is"):
        file.column("clips/mi")


def test_a_file_that_is_gone_after_it_was_opened(path):
    file = CacheFile(path)
    path.unlink()
    with pytest.raises(CacheError, match=r"train\.h5, /clips/mi: cannot be read \(No such file or directory\)"):
        file.column("clips/mi")


def test_reads_that_give_less_than_was_asked_for_go_on(path, content_of, monkeypatch):
    before, preadv = content_of(path), os.preadv
    monkeypatch.setattr(os, "preadv", lambda descriptor, buffers, at: preadv(descriptor, [buffers[0][:7]], at))
    assert content_of(path) == before


def test_replaced_before_the_first_read(sample, path, tmp_path):
    file = CacheFile(path)
    sample.write(tmp_path / "new.h5").replace(path)
    with pytest.raises(CacheError, match=r"train.h5: was replaced after it was opened; start again to read the new"):
        file.read_frames(0)
    with pytest.raises(CacheError, match="was replaced after it was opened"):
        file.read_prompt(0)


def test_replaced_after_the_first_read(path, tmp_path):
    file = CacheFile(path)
    file.read_frames(0)
    shutil.copy(__file__, tmp_path / "new.h5").replace(path)
    with pytest.raises(CacheError, match="was replaced after it was opened"):
        file.read_frames(2)


def test_overwritten_after_the_first_read(path):
    file = CacheFile(path)
    assert len(file.ids) == 3
    file.read_frames(0)
    with path.open("r+b") as raw:
        raw.write(b"\xff" * path.stat().st_size)
    with pytest.raises(CacheError, match="clip S002_P099: the stored frames do not match their hash"):
        file.read_frames(1)


@pytest.mark.parametrize("kind", ["file", "reader"])
@pytest.mark.parametrize("after_reading", [False, True])
def test_pickled(sample, path, kind, after_reading):
    source = CacheFile(path) if kind == "file" else CacheReader(path.parent, "train")
    if after_reading:
        source.read_frames(0)
    copy = pickle.loads(pickle.dumps(source))
    del source  # closes its descriptor, not the copy's
    np.testing.assert_array_equal(copy.read_frames(2), sample.frames[2][0], strict=True)
    assert copy.ids[2] == "clip é"


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["file", "reader"])
def test_forked(sample, path, kind):
    """The child has a descriptor of its own, and neither closes the other's."""
    source = CacheFile(path) if kind == "file" else CacheReader(path.parent, "train")
    source.read_frames(0)
    child = os.fork()
    if not child:
        status = 1
        try:
            same = source.read_frames(2).tobytes() == sample.frames[2].tobytes()
            status = 0 if same and source.read_prompt(0).tokens.tobytes() == sample.prompts[0].tokens.tobytes() else 2
            del source
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(source.read_frames(1), sample.frames[1][0], strict=True)


def test_read_from_several_threads(sample, path):
    file = CacheFile(path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: file.read_frames(i % 3, padding=True).tobytes(), range(300)))
    assert found == [sample.frames[i % 3].tobytes() for i in range(300)]


def test_no_descriptor_is_kept_open(path):
    before = len(list(OPEN.iterdir()))
    file = CacheFile(path)
    file.read_frames(0)
    assert len(list(OPEN.iterdir())) == before


def test_a_reader_keeps_one_descriptor_a_file_while_it_lives(path):
    before = len(list(OPEN.iterdir()))
    reader = CacheReader(path.parent, "train")
    reader.read_frames(0)
    copy = pickle.loads(pickle.dumps(reader))
    copy.read_frames(0)
    assert len(list(OPEN.iterdir())) == before + 2
    del reader
    assert len(list(OPEN.iterdir())) == before + 1
    assert copy.ids[2] == "clip é"
    del copy
    assert len(list(OPEN.iterdir())) == before


def test_a_reader_reads_on_what_was_replaced(sample, path, tmp_path, content_of):
    """A training is not disturbed by an extraction that adds clips."""
    reader = CacheReader(path.parent, "train")
    before = content_of(path)
    sample.clips, sample.frames = sample.clips[:1], sample.frames[:1]
    sample.write(tmp_path / "new.h5").replace(path)
    found = [reader.read_frames(i, padding=True).tobytes() for i in range(3)]
    assert found == before[2]
    assert reader.ids[2] == "clip é"
    assert len(CacheReader(path.parent, "train")) == 1


def test_reader_gives_columns_and_rows(sample, path):
    reader = CacheReader(path.parent, "train")
    assert len(reader) == 3
    assert reader.ids == [clip.id for clip in sample.clips]
    assert reader.systems == ["S001", "S002", "Ω"]
    np.testing.assert_array_equal(reader.mi, [np.nan, 1.2, 1.0])
    np.testing.assert_array_equal(reader.ta, [np.nan, 4.4, 5.0])
    np.testing.assert_array_equal(reader.valid_frames, [3, 1, 4])
    np.testing.assert_array_equal(reader.frames, [5, 1, 4])
    assert (reader.audio_dim, reader.text_dim, reader.dtype) == (3, 2, np.dtype("f2"))
    assert (reader.layers, reader.split_hash) == ((12,), "")
    assert reader.fingerprint == sample.header.fingerprint
    assert reader.provenance == sample.header.provenance
    assert reader.skipped == sample.header.skipped
    assert [reader.prompt(i) for i in range(3)] == [clip.prompt for clip in sample.clips]
    assert reader.read_prompt(2).text == "B"
    assert repr(reader.clip(1)) == repr(sample.clips[1])
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"clip {index} of 3"):
            reader.read_frames(index)


def test_a_clip_in_two_files_of_a_split(sample, tmp_path):
    for index in range(2):
        sample.header = replace(sample.header, file_index=index, file_count=2)
        sample.write(tmp_path / f"train-0000{index}.h5")
    reader = CacheReader(tmp_path, "train")
    with pytest.raises(CacheError, match=r"split 'train' has a clip in two of its files; extract it again$"):
        _ = reader.ids


def test_no_such_split(path):
    with pytest.raises(CacheError, match=r"split 'dev' not found; splits: train; run extract with --split dev first"):
        CacheReader(path.parent, "dev")
    with pytest.raises(CacheError, match=r"none: split 'dev' not found; splits: none; run extract"):
        CacheReader(path.parent / "none", "dev")


def test_renamed_file(path):
    path.rename(path.with_name("dev.h5"))
    with pytest.raises(CacheError, match=r"dev.h5: holds split 'train', not 'dev'; rename it back"):
        CacheReader(path.parent, "dev")
