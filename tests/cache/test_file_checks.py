import json
import random
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from audiomos_cache.cache.file import CacheFile
from audiomos_cache.cache.format import index_hash
from audiomos_cache.errors import CacheError

OPEN = Path("/proc/self/fd")
REMEDY = "the file is damaged or not ours; extract --repair encodes again what was lost"
FEATURES = ("audio/frames", "text/tokens", "text/pad_vector")


def rebuild(path, arrays=(), attributes=(), special=()):
    """Write a file anew with some arrays and attributes changed, and the hash of its index right again.

    `special` names arrays or groups, with a function (file, name, array) that puts something else in their place.
    """
    data, found = {}, {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: data.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
        found.update(file.attrs)
    data.update(arrays)
    found.update(attributes)
    del found["index_hash"]
    index = {name: array for name, array in data.items() if name not in FEATURES}
    if all(isinstance(value, bytes | np.int64) for value in found.values()):
        found["index_hash"] = np.bytes_(index_hash(found, index))
    else:
        found["index_hash"] = np.bytes_(b"0" * 32)
    special = dict(special)
    path.unlink()
    with h5py.File(path, "w") as file:
        for name, array in data.items():
            group = name.partition("/")[0]
            if group in special:
                if group not in file:
                    special[group](file, group, None)
            elif name in special:
                special[name](file, name, array)
            else:
                file[name] = array
        for name, value in found.items():
            file.attrs[name] = value
    return path


def refused(path, message):
    with pytest.raises(CacheError, match=re.escape(message)) as caught:
        CacheFile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_rebuilt_file_is_sound(path, content_of):
    """So that what the others change is what is refused."""
    before = content_of(path)
    assert content_of(rebuild(path)) == before


@pytest.mark.parametrize("kept", [0, 1, 8, 100, 0.5, 0.9, 0.999])
def test_truncated(path, kept):
    raw = path.read_bytes()
    path.write_bytes(raw[: kept if kept >= 1 or kept == 0 else int(len(raw) * kept)])
    refused(path, "cannot be read as a cache file (Unable to ")
    refused(path, REMEDY)


def test_text_file(path):
    path.write_text("id,MI,TA\n" * 1000)
    refused(path, "cannot be read as a cache file (Unable to synchronously open file (file signature not found))")


def test_missing_file(tmp_path):
    refused(tmp_path / "none.h5", "cannot be read as a cache file ([Errno 2] No such file or directory")


def test_folder(tmp_path):
    refused(tmp_path, "cannot be read as a cache file (")


def test_other_hdf5_file(path):
    with h5py.File(path, "w") as file:
        file["audio/frames"] = np.zeros((3, 4), "f2")
    refused(path, "an HDF5 file, but not an audiomos_cache file")


def test_newer_format(path):
    rebuild(path, attributes={"format_version": np.int64(2), "package_version": np.bytes_(b"9.9.1")})
    refused(path, "cache format 2, this version reads up to 1; install audiomos-cache 9.9.1, which wrote it")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format_version", np.bytes_(b"one")),
        ("complete", "yes"),
        ("split", np.int64(3)),
        ("provenance_json", np.bytes_(b"not json")),
        ("file_index", np.zeros((2, 2))),
    ],
)
def test_attribute_of_another_kind(path, name, value):
    refused(rebuild(path, attributes={name: value}), "cannot be read as a cache file (")


def external_link(file, name, _array):
    file[name] = h5py.ExternalLink("other.h5", f"/{name}")


def soft_link(file, name, array):
    file["elsewhere"] = array
    file[name] = h5py.SoftLink("/elsewhere")


def group(file, name, _array):
    file.create_group(name)


def nothing(_file, _name, _array):
    pass


@pytest.mark.parametrize("name", ["audio/frames", "clips/mi", "clips/id/bytes", "audio", "clips"])
def test_external_link(path, tmp_path, name):
    shutil.copy(path, tmp_path / "other.h5")  # followed, it would give just what is expected
    refused(rebuild(path, special={name: external_link}), f"/{name}")
    refused(path, f"is missing, or a link; {REMEDY}")


@pytest.mark.parametrize("name", ["text/tokens", "clips/mi", "text/prompt/offsets"])
def test_soft_link_and_missing_array_and_group(path, name):
    refused(rebuild(path, special={name: soft_link}), f"/{name} is missing, or a link; {REMEDY}")


@pytest.mark.parametrize("name", ["text/tokens", "clips/mi"])
def test_missing_array(path, name):
    refused(rebuild(path, special={name: nothing}), f"/{name} is missing, or a link; {REMEDY}")


def test_group_instead_of_an_array(path):
    refused(rebuild(path, special={"clips/mi": group}), f"/clips/mi is a group, expected an array; {REMEDY}")


def virtual(file, name, array):
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[:] = h5py.VirtualSource("other.h5", name, array.shape)
    file.create_virtual_dataset(name, layout)


def external_storage(file, name, array):
    file.create_dataset(name, array.shape, array.dtype, external=[("/etc/passwd", 0, array.nbytes)])


def chunked(file, name, array):
    file.create_dataset(name, data=array, chunks=array.shape)


def compressed(file, name, array):
    file.create_dataset(name, data=array, compression="gzip")


def checksummed(file, name, array):
    file.create_dataset(name, data=array, fletcher32=True)


@pytest.mark.parametrize("store", [virtual, external_storage, chunked, compressed, checksummed])
@pytest.mark.parametrize("name", ["audio/frames", "text/pad_vector", "clips/ta"])
def test_other_storage_than_plain_bytes(path, tmp_path, name, store):
    shutil.copy(path, tmp_path / "other.h5")
    refused(rebuild(path, special={name: store}), f"/{name} is not stored as plain bytes in this file; {REMEDY}")


@pytest.mark.parametrize("rows", [1 << 20, 1 << 40])
def test_array_that_claims_more_than_the_file(path, rows):
    """Refused before memory is asked for it."""

    def huge(file, name, array):
        file.create_dataset(name, (rows, *array.shape[1:]), array.dtype)  # never written: takes no space

    width = {"clips/audio_hash": 16, "audio/frames": 6}
    for name, bytes_per_row in width.items():
        rebuilt = rebuild(shutil.copy(path, path.with_name("huge.h5")), special={name: huge})
        assert rebuilt.stat().st_size < 1 << 16
        refused(rebuilt, f"/{name} claims {rows * bytes_per_row} bytes, more than the file holds; {REMEDY}")


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("audio/frames", ">f2", "/audio/frames is >f2, expected a little-endian float"),
        ("audio/frames", "<f8", "/audio/frames is <f8, expected a little-endian float"),
        ("text/tokens", "<i2", "/text/tokens is <i2, expected a little-endian float"),
        ("audio/frames", "<f4", "its features are not of one type and width"),
        ("text/pad_vector", "<f4", "its features are not of one type and width"),
        ("clips/mi", "<f4", "/clips/mi is <f4 (3,), expected <f8 in 1-D"),
        ("clips/mi", ">f8", "/clips/mi is >f8 (3,), expected <f8 in 1-D"),
        ("audio/offsets", "<i4", "/audio/offsets is <i4 (4,), expected <i8 in 1-D"),
    ],
)
def test_other_type(path, name, dtype, message):
    with h5py.File(path, "r") as file:
        array = file[name][()].astype(dtype)
    refused(rebuild(path, arrays={name: array}), f"{message}; {REMEDY}")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("clips/mi", np.zeros((3, 1)), "/clips/mi is <f8 (3, 1), expected <f8 in 1-D"),
        ("audio/frames", np.zeros(30, "f2"), "/audio/frames is <f2 (30,), expected None in 2-D"),
        ("audio/frames", np.zeros((9, 3), "f2"), "/audio/frames has 9 rows, its index says 10"),
        ("text/pad_vector", np.zeros((3, 2), "f2"), "/text/pad_vector has 3 rows, its index says 2"),
        ("text/pad_vector", np.zeros((2, 5), "f2"), "its features are not of one type and width"),
        ("audio/offsets", np.array([0, 5, 6, 11]), "/audio/frames has 10 rows, its index says 11"),
        ("audio/offsets", np.array([0, 6, 5, 10]), "its index arrays contradict each other"),
        ("audio/offsets", np.array([1, 5, 6, 10]), "its index arrays contradict each other"),
        ("audio/offsets", np.array([0, 5, 10]), "its index arrays contradict each other"),
        ("text/offsets", np.array([0, 5, 4]), "its index arrays contradict each other"),
        ("clips/id/offsets", np.array([0, 9, 3, 46]), "its index arrays contradict each other"),
        ("clips/id/offsets", np.array([0, 9, 30, 999]), "its index arrays contradict each other"),
        ("clips/system/offsets", np.array([0, 4, 10]), "its index arrays contradict each other"),
        ("clips/prompt_row", np.array([0, 0, 2], "i4"), "its index arrays contradict each other"),
        ("clips/prompt_row", np.array([0, 0, -1], "i4"), "its index arrays contradict each other"),
        ("audio/valid_frames", np.array([3, 0, 4], "i4"), "its index arrays contradict each other"),
        ("audio/valid_frames", np.array([6, 1, 4], "i4"), "its index arrays contradict each other"),
        ("clips/ta", np.zeros(2), "its index arrays contradict each other"),
        ("clips/feature_hash", np.zeros((3, 8), "u1"), "its index arrays contradict each other"),
        ("skipped/id/offsets", np.array([0, 11]), "its index arrays contradict each other"),
    ],
)
def test_arrays_that_contradict_each_other(path, name, array, message):
    refused(rebuild(path, arrays={name: array}), f"{message}; {REMEDY}")


def test_text_that_is_not_utf8(path):
    with h5py.File(path, "r") as file:
        names = file["clips/id/bytes"][()]
    names[3] = 0xFF
    file = CacheFile(rebuild(path, arrays={"clips/id/bytes": names}))
    with pytest.raises(CacheError, match="/clips/id is not UTF-8 text"):
        _ = file.ids


@pytest.mark.parametrize("name", ["clips/mi", "clips/prompt_row", "audio/valid_frames", "skipped/reason/bytes"])
def test_index_changed_in_place(path, name):
    with h5py.File(path, "r+") as file:
        file[name][0] = file[name][0] + 1 if name != "clips/mi" else 4.9
    refused(path, f"the index does not match its hash; {REMEDY}")


def test_provenance_changed_in_place(path):
    with h5py.File(path, "r+") as file:
        file.attrs["provenance_json"] = np.bytes_(json.dumps({"audio_encoder": {"untrained": False}}).encode())
    refused(path, f"the index does not match its hash; {REMEDY}")


@pytest.mark.parametrize(
    ("name", "row", "what"),
    [
        ("audio/frames", 2, "clip audiomos2025-track1-S001_P001: the stored frames"),
        ("audio/frames", 4, "clip audiomos2025-track1-S001_P001: the stored frames"),  # padding
        ("audio/frames", 5, "clip S002_P099: the stored frames"),
        ("text/tokens", 3, "prompt 'B': the stored features"),
        ("text/pad_vector", 1, "prompt 'B': the stored features"),
    ],
)
def test_flipped_bit_in_a_feature_names_the_clip_or_prompt(path, content_of, name, row, what):
    with h5py.File(path, "r") as file:
        place = file[name].id.get_offset() + row * file[name][0].nbytes
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CacheError, match=re.escape(f"{path}, {what} do not match their hash; {REMEDY}")):
        content_of(path)


def test_flipped_bits_anywhere_are_seen_or_harmless(path, content_of):
    before, raw = content_of(path), path.read_bytes()
    flips = random.Random(2025).sample(range(8 * len(raw)), 100)
    seen = 0
    for flip in flips:
        damaged = bytearray(raw)
        damaged[flip // 8] ^= 1 << flip % 8
        path.write_bytes(damaged)
        try:
            found = content_of(path)
        except CacheError:
            seen += 1
            continue
        assert found == before, f"bit {flip % 8} of byte {flip // 8}"
    assert seen > 50  # the rest hit bytes that HDF5 does not use


def test_a_refused_file_is_not_kept_open(path):
    path.write_bytes(path.read_bytes()[:-1])
    before = len(list(OPEN.iterdir()))
    for _ in range(5):
        refused(path, "cannot be read as a cache file")
    assert len(list(OPEN.iterdir())) == before


@pytest.mark.parametrize("value", [b"{", b"{}"])
def test_fingerprint_that_is_not_its_readable_form(path, value):
    refused(
        rebuild(path, attributes={"fingerprint_json": np.bytes_(value)}),
        "its fingerprint does not match its readable form",
    )
