import json
import resource
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pytest
import xxhash

from audiomos_cache import __version__
from audiomos_cache.cache.file import CacheFile
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
    "clips/feature_hash": ("|u1", (3, 16)),
    "clips/padding_hash": ("|u1", (3, 16)),
    "clips/id/offsets": ("<i8", (4,)),
    "clips/system/offsets": ("<i8", (4,)),
    "clips/prompt_id/offsets": ("<i8", (4,)),
    "text/prompt/offsets": ("<i8", (3,)),
    "skipped/id/offsets": ("<i8", (3,)),
    "skipped/reason/offsets": ("<i8", (3,)),
}
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
        assert valid.tobytes() == expected[: sample.clips[i].valid_frames].tobytes()
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
    np.testing.assert_array_equal(file.read_frames(0, padding=True), sample.frames[0], strict=True)


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

        frames = np.concatenate(sample.frames)
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
        ):
            np.testing.assert_array_equal(found[name][()], array)
        start = found["audio/frames"].id.get_offset()
        assert raw[start : start + frames.nbytes] == frames.tobytes()

        for row, prompt in enumerate(sample.prompts):
            both = prompt.tokens.tobytes() + prompt.pad_vector.tobytes()
            assert found["text/feature_hash"][row].tobytes() == xxhash.xxh3_128_digest(both)
        names, offsets = found["clips/id/bytes"][()].tobytes(), found["clips/id/offsets"][()]
        assert [names[a:b].decode() for a, b in pairwise(offsets)] == [clip.id for clip in sample.clips]


def test_attributes_are_what_the_design_says(sample, path):
    with h5py.File(path, "r") as file:
        attributes = dict(file.attrs)
    assert len(attributes.pop("index_hash")) == 32
    text = sample.header.fingerprint.json
    assert json.loads(attributes.pop("provenance_json")) == {"audio_encoder": {"source": "none", "untrained": True}}
    assert attributes == {
        "format": b"audiomos_cache",
        "format_version": 1,
        "package_version": __version__.encode(),
        "split": b"train",
        "fingerprint": xxhash.xxh3_128_hexdigest(text.encode()).encode(),
        "fingerprint_json": text.encode(),
        "complete": 1,
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
    sample.frames[1] = sample.frames[0]
    with pytest.raises(CacheError, match=r"clip S002_P099: .* \(5 frames, expected 1 with the recorded hash\)"):
        sample.write(tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_leaves_nothing(sample, tmp_path):
    path = tmp_path / "a.h5"
    with files_of_at_most(8192), pytest.raises(CacheError, match=r"a\.h5: File too large, 0\.000 GB needed; free some"):
        sample.write(path)
    assert list(tmp_path.iterdir()) == []
    assert len(CacheFile(sample.write(path))) == 3


def test_space_that_is_enough_for_the_question_is_enough_for_hdf5(sample, tmp_path):
    """Otherwise HDF5 would meet the full disk, and may abort the process."""
    for clip in range(300):
        sample.add(f"clip-{clip:0200d}", 1 + clip % 7, 1)

    def try_to_write(limit):
        try:
            with files_of_at_most(limit):
                sample.write(tmp_path / "a.h5")
        except CacheError as error:
            return str(error).partition(",")[0]
        assert len(CacheFile(tmp_path / "a.h5")) == 303
        (tmp_path / "a.h5").unlink()
        return "written"

    outcomes = [try_to_write(limit) for limit in range(1 << 16, 1 << 19, 1 << 14)]
    refused = outcomes.count(f"{tmp_path}/a.h5: File too large")
    assert 0 < refused < len(outcomes)
    assert outcomes[refused:] == ["written"] * (len(outcomes) - refused)


def test_a_file_that_hdf5_cannot_close_is_our_error(sample, tmp_path):
    first = sample.frames[0]

    def frames():
        yield first
        raise RuntimeError("Can't decrement id ref count (file write failed: time = Mon Nov 23\n, errno = 28)")

    sample.frames = frames()
    with pytest.raises(CacheError, match=r"a.h5: cannot be written; is the disk full\? \(Can't .* Nov 23 , errno = 28"):
        sample.write(tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []
