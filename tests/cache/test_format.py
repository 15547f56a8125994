import errno
import json
import os
import resource
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash

from audiomos_cache import __version__
from audiomos_cache.cache import file_writer
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.errors import CacheError

# Name in the file: type and shape, for the sample's 3 clips, 10 frames, 2 prompts, 4 tokens and 2 skipped clips.
LAYOUT = {
    "audio/frames": ("<f2", (10, 3)),
    "audio/offsets": ("<i8", (4,)),
    "audio/valid_frames": ("<i4", (3,)),
    "text/tokens": ("<f2", (4, 2)),
    "text/offsets": ("<i8", (3,)),
    "text/pad_vector": ("<f2", (2, 2)),
    "text/feature_hash": ("|u1", (2, 16)),
    "clips/prompt_row": ("<i4", (3,)),
    "clips/mi": ("<f8", (3,)),
    "clips/ta": ("<f8", (3,)),
    "clips/duration_s": ("<f8", (3,)),
    "clips/audio_hash": ("|u1", (3, 16)),
    "clips/feature_hash": ("|u1", (3, 1, 16)),
    "clips/padding_hash": ("|u1", (3, 1, 16)),
    "clips/position": ("<i4", (3,)),
    "clips/id/offsets": ("<i8", (4,)),
    "clips/system/offsets": ("<i8", (4,)),
    "clips/prompt_id/offsets": ("<i8", (4,)),
    "text/prompt/offsets": ("<i8", (3,)),
    "skipped/id/offsets": ("<i8", (3,)),
    "skipped/reason/offsets": ("<i8", (3,)),
}
OPEN = Path("/proc/self/fd")
STRINGS = {name.removesuffix("/offsets") for name in LAYOUT if name.count("/") == 2} | {"skipped/id", "skipped/reason"}


@contextmanager
def files_of_at_most(size):
    """Let the system refuse larger files, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def datasets_of(file):
    found = {}
    file.visititems(lambda name, node: found.update({name: node}) if isinstance(node, h5py.Dataset) else None)
    return found


def test_every_field_comes_back(sample, path):
    file = CacheFile(path)
    assert file.header == sample.header
    assert len(file) == 3
    assert [repr(file.clip(i)) for i in range(3)] == [repr(clip) for clip in sample.clips]
    assert file.ids == ["audiomos2025-track1-S001_P001", "S002_P099", "clip é"]
    assert file.systems == ["S001", "S002", "Ω"]
    assert file.prompt_ids == ["P001", "P099", "clip é"]
    for i, expected in enumerate(sample.frames):
        whole, valid = file.read_frames(i, padding=True), file.read_frames(i)
        assert whole.dtype == valid.dtype == np.dtype("<f2")
        assert whole.tobytes() == expected.tobytes()
        assert valid.tobytes() == expected[0, : sample.clips[i].valid_frames].tobytes()
    assert file.prompts == [prompt.text for prompt in sample.prompts]  # two prompt ids with one text: stored once
    for row, expected in enumerate(sample.prompts):
        found = file.read_prompt(row)
        assert found.text == expected.text
        np.testing.assert_array_equal(found.tokens, expected.tokens, strict=True)
        np.testing.assert_array_equal(found.pad_vector, expected.pad_vector, strict=True)


def test_a_file_without_skipped_clips_and_with_float32(sample, tmp_path):
    fingerprint = type(sample.header.fingerprint).of({"dtype": "float32"})
    sample.header = replace(sample.header, skipped=(), fingerprint=fingerprint)
    sample.clips, sample.frames = [], []
    sample.add("a", 2, 1)
    file = CacheFile(sample.write(tmp_path / "a.h5"))
    assert file.header.skipped == ()
    assert file.read_frames(0, padding=True).dtype == np.dtype("<f4")
    np.testing.assert_array_equal(file.read_frames(0, padding=True), sample.frames[0][0], strict=True)


def test_several_layers_come_back(sample, tmp_path):
    file = CacheFile(sample.with_layers(0, 6, 12).write(tmp_path / "a.h5"))
    assert file.header == sample.header
    assert [repr(file.clip(i)) for i in range(3)] == [repr(clip) for clip in sample.clips]
    for i, layers in enumerate(sample.frames):
        for layer, expected in zip((0, 6, 12), layers, strict=True):
            np.testing.assert_array_equal(file.read_frames(i, layer=layer, padding=True), expected, strict=True)
            valid = expected[: sample.clips[i].valid_frames]
            np.testing.assert_array_equal(file.read_frames(i, layer=layer), valid, strict=True)


def test_each_of_several_layers_has_an_array_and_a_hash_of_its_own(sample, tmp_path):
    path = sample.with_layers(0, 6, 12).write(tmp_path / "a.h5")
    with h5py.File(path, "r") as file:
        assert file.attrs["layers"] == b"0,6,12"
        assert sorted(file["audio"]) == ["frames_0", "frames_12", "frames_6", "offsets", "valid_frames"]
        for which, layer in enumerate((0, 6, 12)):
            stored = file[f"audio/frames_{layer}"][()]
            np.testing.assert_array_equal(stored, np.concatenate([rows[which] for rows in sample.frames]), strict=True)
            for clip, start, valid, end in ((0, 0, 3, 5), (1, 5, 6, 6), (2, 6, 10, 10)):
                found = (file["clips/feature_hash"][clip, which], file["clips/padding_hash"][clip, which])
                for recorded, rows in zip(found, (stored[start:valid], stored[valid:end]), strict=True):
                    assert recorded.tobytes() == xxhash.xxh3_128_digest(rows.tobytes())


def test_layout_is_what_the_design_says(sample, path):
    raw = path.read_bytes()
    assert raw[:9] == b"\x89HDF\r\n\x1a\n\x02"  # superblock 2: its metadata has checksums
    with h5py.File(path, "r") as file:
        found = datasets_of(file)
        lengths = {name: int(found[f"{name}/offsets"][-1]) for name in STRINGS}
        expected = LAYOUT | {f"{name}/bytes": ("|u1", (length,)) for name, length in lengths.items()}
        assert {name: (node.dtype.str, node.shape) for name, node in found.items()} == expected
        for node in found.values():
            properties = node.id.get_create_plist()
            assert properties.get_layout() == h5py.h5d.CONTIGUOUS
            assert properties.get_nfilters() == 0
            assert not node.is_virtual
            assert node.external is None

        frames = np.concatenate(sample.frames, axis=1)[0]
        for name, array in (
            ("audio/frames", frames),
            ("audio/offsets", [0, 5, 6, 10]),
            ("audio/valid_frames", [3, 1, 4]),
            ("text/tokens", np.concatenate([prompt.tokens for prompt in sample.prompts])),
            ("text/offsets", [0, 3, 4]),
            ("text/pad_vector", [prompt.pad_vector for prompt in sample.prompts]),
            ("clips/prompt_row", [0, 0, 1]),
            ("clips/mi", [np.nan, 1.2, 1.0]),
            ("clips/ta", [np.nan, 4.4, 5.0]),
            ("clips/duration_s", [0.3, 0.3, 1 / 3]),
            ("clips/position", [0, 2, 3]),
        ):
            np.testing.assert_array_equal(found[name][()], array)
        start = found["audio/frames"].id.get_offset()
        assert raw[start : start + frames.nbytes] == frames.tobytes()

        for row, prompt in enumerate(sample.prompts):
            both = prompt.tokens.tobytes() + prompt.pad_vector.tobytes()
            assert found["text/feature_hash"][row].tobytes() == xxhash.xxh3_128_digest(both)
        for row, clip in enumerate(sample.clips):
            first, valid, end = ((0, 3, 5), (5, 6, 6), (6, 10, 10))[row]
            assert found["clips/audio_hash"][row].tobytes() == xxhash.xxh3_128_digest(clip.id.encode())
            assert found["clips/feature_hash"][row, 0].tobytes() == xxhash.xxh3_128_digest(
                frames[first:valid].tobytes()
            )
            assert found["clips/padding_hash"][row, 0].tobytes() == xxhash.xxh3_128_digest(frames[valid:end].tobytes())
        for name, expected in (
            ("clips/id", [clip.id for clip in sample.clips]),
            ("clips/system", ["S001", "S002", "Ω"]),
            ("clips/prompt_id", ["P001", "P099", "clip é"]),
            ("text/prompt", [prompt.text for prompt in sample.prompts]),
            ("skipped/id", ["S009_P001", "ü"]),
            ("skipped/reason", ["S009_P001.wav: no such file", "leer"]),
        ):
            names, offsets = found[f"{name}/bytes"][()].tobytes(), found[f"{name}/offsets"][()]
            assert [names[a:b].decode() for a, b in pairwise(offsets)] == expected


def test_attributes_are_what_the_design_says(sample, path):
    with h5py.File(path, "r") as file:
        attributes = dict(file.attrs)
        columns = {name: node[()] for name, node in datasets_of(file).items()}
    hashed = attributes.pop("index_hash")
    text = "".join(
        f"{name}={value if isinstance(value, np.int64) else value.decode()}\n"
        for name, value in sorted(attributes.items())
    )
    assert hashed == xxhash.xxh3_128_hexdigest(text.encode()).encode()
    for name in ("audio/frames", "text/tokens", "text/pad_vector"):  # those are hashed clip by clip
        del columns[name]
    assert json.loads(attributes.pop("columns_json")) == {
        name: xxhash.xxh3_128_hexdigest(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
        for name, array in columns.items()
    }
    text = sample.header.fingerprint.json
    assert json.loads(attributes.pop("provenance_json")) == {"audio_encoder": {"source": "none", "untrained": True}}
    assert attributes == {
        "format": b"audiomos_cache",
        "format_version": 2,
        "package_version": __version__.encode(),
        "split": b"train",
        "fingerprint": xxhash.xxh3_128_hexdigest(text.encode()).encode(),
        "fingerprint_json": text.encode(),
        "layers": b"12",
        "list_hash": b"0" * 32,
        "batch_size": 0,
        "list_length": 5,
        "complete": 1,
        "split_hash": b"",
        "file_index": 0,
        "file_count": 1,
    }


def test_equal_content_gives_equal_bytes_whenever_it_is_written(sample, path, tmp_path):
    time.sleep(1.1)  # HDF5 counts times in seconds
    assert sample.write(tmp_path / "later.h5").read_bytes() == path.read_bytes()


def test_an_existing_file_is_never_written_to(sample, path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        sample.write(path)
    assert path.read_bytes() == before


def test_frames_that_were_not_encoded_are_not_written(sample, tmp_path):
    sample.frames[1] = sample.frames[1] + 1
    with pytest.raises(CacheError, match=r"a.h5, clip S002_P099: the frames to write are not those that were encoded"):
        sample.write(tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda rows: np.repeat(rows, 5, axis=1), r"float16 \(1, 5, 3\)"),
        (lambda rows: np.repeat(rows, 2, axis=0), r"float16 \(2, 1, 3\)"),
        (lambda rows: rows[..., :2], r"float16 \(1, 1, 2\)"),
        (lambda rows: rows[0], r"float16 \(1, 3\)"),
        (lambda rows: rows.astype("f4"), r"float32 \(1, 1, 3\)"),
    ],
)
def test_frames_of_another_shape_or_type_are_not_written(sample, tmp_path, change, found):
    sample.frames[1] = change(sample.frames[1])
    message = rf"clip S002_P099: .* \({found}, expected float16 \(1, 1, 3\) with the recorded hash\); run extract again"
    with pytest.raises(CacheError, match=message):
        sample.write(tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_layer_of_several_is_not_written(sample, tmp_path):
    sample.with_layers(0, 6, 12).frames[2][1] += 1
    with pytest.raises(CacheError, match="clip clip é: the frames to write are not those that were encoded"):
        sample.write(tmp_path / "a.h5")


def test_a_full_disk_is_named_and_leaves_nothing(sample, tmp_path):
    path = tmp_path / "a.h5"
    message = (
        r"a\.h5: File too large, 0\.000 GB needed; free some and run the command again, it resumes where it stopped"
    )
    with files_of_at_most(8192), pytest.raises(CacheError, match=message):
        sample.write(path)
    assert list(tmp_path.iterdir()) == []
    assert len(CacheFile(sample.write(path))) == 3


def test_space_that_is_enough_for_the_question_is_enough_for_the_file(sample, tmp_path):
    """All of it is asked for before the first byte is written, and no byte more."""
    path = sample.write(tmp_path / "a.h5")
    size = path.stat().st_size
    path.unlink()
    with files_of_at_most(size):
        assert len(CacheFile(sample.write(path))) == 3
    path.unlink()
    with files_of_at_most(size - 1), pytest.raises(CacheError, match="File too large"):
        sample.write(path)


def failing(call, number, code):
    """A function of the system that fails at the given call of it."""
    original, calls = getattr(os, call), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise OSError(code, os.strerror(code))
        return original(*arguments)

    return fail


@pytest.mark.parametrize(
    ("call", "share"), [("posix_fallocate", 0), ("pwrite", 0), ("pwrite", 0.5), ("pwrite", 1), ("fsync", 0)]
)
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "No space left on device, 0.000 GB needed; free some"),
        (errno.EDQUOT, "Disk quota exceeded, 0.000 GB needed; free some"),
        (errno.EIO, "Input/output error; check the disk"),
    ],
)
def test_a_disk_that_fails_at_any_call_leaves_nothing(sample, tmp_path, monkeypatch, call, share, code, message):
    path, opened = tmp_path / "a.h5", len(list(OPEN.iterdir()))
    made, original = [], getattr(os, call)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *arguments: made.append(arguments) or original(*arguments))
        sample.write(path)
    path.unlink()
    assert len(made) > 50 if call == "pwrite" else len(made) == 1
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(call, 1 + round(share * (len(made) - 1)), code))
        with pytest.raises(CacheError) as caught:
            sample.write(path)
    assert str(caught.value) == f"{path}: {message} and run the command again, it resumes where it stopped"
    assert list(tmp_path.iterdir()) == []
    assert len(list(OPEN.iterdir())) == opened


def test_writes_that_take_less_than_was_given_go_on(sample, path, tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, position: pwrite(descriptor, data[:7], position))
    assert sample.write(tmp_path / "slowly.h5").read_bytes() == path.read_bytes()


def test_without_the_question_for_space(sample, path, tmp_path, monkeypatch):
    """As on a Mac."""
    monkeypatch.delattr(os, "posix_fallocate")
    assert sample.write(tmp_path / "a.h5").read_bytes() == path.read_bytes()


def test_an_error_from_where_the_frames_come_leaves_nothing(sample, tmp_path):
    first = sample.frames[0]

    def frames():
        yield first
        raise CacheError("the source is damaged")

    sample.frames = frames()
    with pytest.raises(CacheError, match=r"^the source is damaged$"):
        sample.write(tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_are_far_apart_take_no_memory():
    """HDF5 lays out a large file without writing, or holding, what lies between."""
    array = ((1 << 40, 4), np.dtype("<f2"))
    structure, positions = file_writer._lay_out({"audio/frames": array, "text/tokens": array}, {"format": b"x"})
    assert structure.size > 1 << 44
    assert sum(len(data) for _, data in structure.written) < 1 << 16
    assert abs(positions["text/tokens"] - positions["audio/frames"]) >= 1 << 43
