import json
import os
import random
import re
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.format import COLUMNS
from audiomos_cache.errors import CacheError
from tests.support.cache import group, rebuild

OPEN = Path("/proc/self/fd")
REMEDY = "the file is damaged or not ours; extract --repair encodes again what was lost"
READ_AT_ONCE = ("audio/offsets", "audio/valid_frames", "skipped/id/bytes", "skipped/id/offsets",
                "skipped/reason/bytes", "skipped/reason/offsets")  # fmt: skip


def refused(path, message):
    with pytest.raises(CacheError, match=re.escape(message)) as caught:
        CacheFile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def refused_when_read(path, name, message):
    """The file opens, as its other columns may be all that is needed, but that one is not given."""
    file = CacheFile(path)
    with pytest.raises(CacheError, match=re.escape(message)) as caught:
        file.column(name)
    assert str(caught.value).startswith(f"{path}: ")


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
    refused(tmp_path / "none.h5", "none.h5: file not found, expected a cache file")


def test_folder(tmp_path):
    refused(tmp_path, "is a folder, expected a cache file")


def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "dev.h5")
    refused(tmp_path / "dev.h5", "is a named pipe, expected a cache file")


def test_other_hdf5_file(path):
    with h5py.File(path, "w") as file:
        file["audio/frames"] = np.zeros((3, 4), "f2")
    refused(path, "an HDF5 file, but not an audiomos_cache file")


def test_newer_format(path):
    newer = {"format_version": np.int64(3), "package_version": np.bytes_(b"9.9.1"), "layers": None}
    rebuild(path, attributes=newer, special={"clips": nothing})
    message = f"{path}: format version is 3, expected 2; install audiomos-cache 9.9.1, which wrote it"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):  # nothing of damage, or of a repair
        CacheFile(path)


def test_older_format(path):
    older = {"format_version": np.int64(1), "layers": None, "list_hash": None, "columns_json": None}
    rebuild(path, attributes=older, special={"clips": nothing})
    message = f"{path}: format version is 1, expected 2; extract it again"
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        CacheFile(path)


A_STRING, A_NUMBER = "is not one string of at most 1 MiB", "is not one whole number"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format_version", np.bytes_(b"one"), A_NUMBER),
        ("format", np.int64(2), A_STRING),
        ("complete", "yes", A_NUMBER),
        ("complete", np.bool_(True), A_NUMBER),
        ("list_length", np.float64(5), A_NUMBER),
        ("split", np.int64(3), A_STRING),
        ("split", "train", A_STRING),  # of variable length: a pointer into the file
        ("package_version", h5py.Empty("S5"), A_STRING),
        ("file_count", h5py.Empty("i8"), A_NUMBER),
        ("file_index", np.zeros((2, 2), int), A_NUMBER),
        ("file_index", np.zeros(1, int), A_NUMBER),
        ("list_hash", np.array([b"a", b"b"]), A_STRING),
        ("index_hash", np.array([b"a"]), A_STRING),
        ("provenance_json", np.bytes_(b"{" + b" " * (1 << 20) + b"}"), A_STRING),
        ("columns_json", None, "is missing"),
        ("index_hash", None, "is missing"),
        ("file_count", None, "is missing"),
        ("format", None, "an HDF5 file, but not an audiomos_cache file"),
    ],
)
def test_attribute_of_another_kind(path, name, value, message):
    rebuild(path, attributes={name: value})
    refused(path, f"attribute {name} {message}; {REMEDY}" if message[:2] == "is" else message)


def test_writer_of_a_newer_format_that_is_no_string(path):
    """Python's bytes(n) is so many zeros."""
    newer = {"format_version": np.int64(3), "package_version": np.int64(1 << 50)}
    refused(rebuild(path, attributes=newer), f"attribute package_version {A_STRING}; {REMEDY}")


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("columns_json", b"[]", "str"),
        ("columns_json", b"7", "str"),
        ("provenance_json", b"[1]", "dict"),
        ("provenance_json", b'{"audio_encoder": 1}', "dict"),
    ],
)
def test_attribute_that_is_other_json(path, name, value, kind):
    message = f"attribute {name} is not an object of {kind} values; {REMEDY}"
    refused(rebuild(path, attributes={name: np.bytes_(value)}), message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("provenance_json", b"not json"),
        ("provenance_json", b"[" * 100_000),
        ("layers", b""),
        ("layers", b"twelve"),
        ("layers", b"12,"),
    ],
)
def test_attribute_that_says_nothing(path, name, value):
    """Its hash is right: that is no sign of sense."""
    refused(rebuild(path, attributes={name: np.bytes_(value)}), "cannot be read as a cache file (")
    refused(path, REMEDY)


def test_attribute_that_is_not_utf8(path):
    changed = {"split": np.bytes_(b"\xff"), "index_hash": np.bytes_(b"0" * 32)}
    refused(rebuild(path, attributes=changed), "cannot be read as a cache file ('utf-8' codec can't decode")


@pytest.mark.parametrize("dtype", ["null", '"float64"', '["float16"]'])
def test_fingerprint_of_an_unknown_type(path, dtype):
    text = f'{{"dtype":{dtype}}}'.encode()
    digest = xxhash.xxh3_128_hexdigest(text).encode()
    rebuild(path, attributes={"fingerprint_json": np.bytes_(text), "fingerprint": np.bytes_(digest)})
    refused(path, "cannot be read as a cache file (")


@pytest.mark.parametrize(("layers", "missing"), [(b"6,12", 6), (b"6,12,13", 13)])
def test_layers_that_are_not_there(sample, path, tmp_path, layers, missing):
    if missing == 13:
        path = sample.with_layers(6, 12).write(tmp_path / "a.h5")
    rebuild(path, attributes={"layers": np.bytes_(layers)})
    refused(path, f"/audio/frames_{missing} is missing, or a link; {REMEDY}")


def external_link(file, name, _array):
    file[name] = h5py.ExternalLink("other.h5", f"/{name}")


def soft_link(file, name, array):
    file["elsewhere"] = array
    file[name] = h5py.SoftLink("/elsewhere")


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
    refused(rebuild(path, special={name: store}), f"/{name} is not stored uncompressed in this file; {REMEDY}")


@pytest.mark.parametrize("rows", [1 << 20, 1 << 40])
def test_array_that_claims_more_than_the_file(path, rows):
    """Refused before memory is asked for it."""

    def huge(file, name, array):
        file.create_dataset(name, (rows, *array.shape[1:]), array.dtype)  # never written: takes no space

    width = {"clips/audio_hash": 16, "audio/frames": 6}
    for name, bytes_per_row in width.items():
        rebuilt = rebuild(shutil.copy(path, path.with_name("huge.h5")), special={name: huge})
        assert rebuilt.stat().st_size < 1 << 16
        refused(rebuilt, f"/{name} has {rows * bytes_per_row} bytes, more than the file contains; {REMEDY}")


@pytest.mark.parametrize("name", ["audio/frames", "clips/audio_hash"])
def test_array_that_lies_beyond_the_file(path, name):
    """In the oldest of HDF5's formats, whose structure has no checksums. New versions of HDF5 see it themselves."""
    rebuild(path, libver="earliest")
    with h5py.File(path, "r") as file:
        offset, size = file[name].id.get_offset(), file[name].nbytes
    raw = path.read_bytes()
    found = struct.pack("<QQ", offset, size)
    assert raw.count(found) == 1
    path.write_bytes(raw.replace(found, struct.pack("<QQ", len(raw) - size + 1, size)))
    with pytest.raises(CacheError, match=rf"(/{name} has {size} bytes|invalid dataset size).*; {REMEDY}$"):
        CacheFile(path)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("audio/frames", ">f2", "/audio/frames is >f2 (10, 3), expected <f2 in 2-D"),
        ("audio/frames", "<f8", "/audio/frames is <f8 (10, 3), expected <f2 in 2-D"),
        ("audio/frames", "<f4", "/audio/frames is <f4 (10, 3), expected <f2 in 2-D"),
        ("text/tokens", "<i2", "/text/tokens is <i2 (4, 2), expected <f2 in 2-D"),
        ("text/pad_vector", "<f4", "/text/pad_vector is <f4 (2, 2), expected <f2 in 2-D"),
        ("clips/mi", "<f4", "/clips/mi is <f4 (3,), expected <f8 in 1-D"),
        ("clips/mi", ">f8", "/clips/mi is >f8 (3,), expected <f8 in 1-D"),
        ("audio/offsets", "<i4", "/audio/offsets is <i4 (4,), expected <i8 in 1-D"),
        ("clips/position", "<i8", "/clips/position is <i8 (3,), expected <i4 in 1-D"),
        ("clips/feature_hash", "|i1", "/clips/feature_hash is |i1 (3, 1, 16), expected |u1 in 3-D"),
    ],
)
def test_other_type(path, name, dtype, message):
    with h5py.File(path, "r") as file:
        array = file[name][()].astype(dtype)
    refused(rebuild(path, arrays={name: array}), f"{message}; {REMEDY}")


@pytest.mark.parametrize(
    ("name", "array", "found", "expected"),
    [
        ("clips/mi", np.zeros((3, 1)), "(3, 1)", None),
        ("audio/frames", np.zeros(30, "f2"), "(30,)", None),
        ("clips/feature_hash", np.zeros((3, 16), "u1"), "(3, 16)", None),  # as in format 1
        ("audio/offsets", np.array([0, 5, 10]), "(3,)", "(4,)"),
        ("audio/valid_frames", np.array([3, 1], "i4"), "(2,)", "(3,)"),
        ("text/offsets", np.array([0, 4]), "(2,)", "(3,)"),
        ("text/prompt/offsets", np.array([0, 1, 2, 45]), "(4,)", "(3,)"),
        ("text/pad_vector", np.zeros((3, 2), "f2"), "(3, 2)", "(2, 2)"),
        ("text/pad_vector", np.zeros((2, 5), "f2"), "(2, 5)", "(2, 2)"),
        ("text/feature_hash", np.zeros((2, 8), "u1"), "(2, 8)", "(2, 16)"),
        ("clips/ta", np.zeros(2), "(2,)", "(3,)"),
        ("clips/duration_s", np.zeros(4), "(4,)", "(3,)"),
        ("clips/prompt_row", np.zeros(0, "i4"), "(0,)", "(3,)"),
        ("clips/position", np.arange(4, dtype="i4"), "(4,)", "(3,)"),
        ("clips/audio_hash", np.zeros((3, 8), "u1"), "(3, 8)", "(3, 16)"),
        ("clips/feature_hash", np.zeros((3, 1, 8), "u1"), "(3, 1, 8)", "(3, 1, 16)"),
        ("clips/padding_hash", np.zeros((3, 2, 16), "u1"), "(3, 2, 16)", "(3, 1, 16)"),
        ("clips/id/offsets", np.array([0, 29, 38]), "(3,)", "(4,)"),
        ("clips/system/offsets", np.array([0, 4, 10]), "(3,)", "(4,)"),
        ("skipped/reason/offsets", np.array([0, 30]), "(2,)", "(3,)"),
    ],
)
def test_shapes_that_contradict_each_other(path, name, array, found, expected):
    rebuild(path, arrays={name: array})
    if expected is None:  # not even so many dimensions
        refused(path, f"/{name} is {array.dtype.str} {found}, expected {array.dtype.str} in ")
    else:
        refused(path, f"/{name} has the shape {found}, expected {expected} like the other arrays; {REMEDY}")


def test_layers_of_different_shapes(sample, tmp_path):
    path = sample.with_layers(6, 12).write(tmp_path / "a.h5")
    for shape in ((9, 3), (10, 2)):
        rebuild(path, arrays={"audio/frames_12": np.zeros(shape, "f2")})
        refused(path, f"/audio/frames_12 has the shape {shape}, expected (10, 3) like the other arrays; {REMEDY}")


NO_RISE = "does not rise from 0 to {}, the length of its array"
VALID = "is not between 1 and the number of frames for every clip"
ROW = "is not below 2, the number of prompts, for every clip"


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("audio/offsets", np.array([0, 5, 6, 11]), NO_RISE.format(10)),
        ("audio/offsets", np.array([0, 5, 6, 9]), NO_RISE.format(10)),
        ("audio/offsets", np.array([0, 6, 5, 10]), NO_RISE.format(10)),
        ("audio/offsets", np.array([1, 5, 6, 10]), NO_RISE.format(10)),
        ("audio/offsets", np.array([0, -(2**63), 6, 10]), NO_RISE.format(10)),
        ("audio/valid_frames", np.array([3, 0, 4], "i4"), VALID),
        ("audio/valid_frames", np.array([6, 1, 4], "i4"), VALID),
        ("audio/valid_frames", np.array([-1, 1, 4], "i4"), VALID),
        ("skipped/id/offsets", np.array([0, 9, 10]), NO_RISE.format(11)),
        ("skipped/reason/offsets", np.array([0, 32, 31]), NO_RISE.format(31)),
        ("text/offsets", np.array([0, 5, 4]), NO_RISE.format(4)),
        ("text/offsets", np.array([0, 3, 5]), NO_RISE.format(4)),
        ("clips/id/offsets", np.array([0, 29, 3, 45]), NO_RISE.format(45)),
        ("clips/id/offsets", np.array([0, 29, 38, 999]), NO_RISE.format(45)),
        ("text/prompt/offsets", np.array([1, 2, 47]), NO_RISE.format(47)),
        ("clips/prompt_row", np.array([0, 0, 2], "i4"), ROW),
        ("clips/prompt_row", np.array([0, 0, -1], "i4"), ROW),
        ("clips/position", np.array([0, -1, 2], "i4"), "contains a negative position"),
    ],
)
def test_values_that_contradict_other_arrays(path, name, values, message):
    rebuild(path, arrays={name: values})
    if name in READ_AT_ONCE:
        refused(path, f"/{name} {message}; {REMEDY}")
    else:
        refused_when_read(path, name, f"/{name} {message}; {REMEDY}")


def test_frames_and_tokens_of_another_number_than_the_offsets_say(path):
    refused(rebuild(path, arrays={"audio/frames": np.zeros((9, 3), "f2")}), f"/audio/offsets {NO_RISE.format(9)}")
    again = rebuild(path, arrays={"audio/frames": np.zeros((10, 3), "f2"), "text/tokens": np.zeros((5, 2), "f2")})
    refused_when_read(again, "text/offsets", f"/text/offsets {NO_RISE.format(5)}; {REMEDY}")


def test_skipped_clips_without_even_a_first_offset(path):
    none = {f"skipped/{name}/offsets": np.empty(0, int) for name in ("id", "reason")}
    refused(rebuild(path, arrays=none), f"/skipped/id/offsets {NO_RISE.format(11)}; {REMEDY}")


def test_an_id_twice(path):
    with h5py.File(path, "r") as file:
        names = file["clips/id/bytes"][()].tobytes()
    twice = names.replace("clip é".encode(), b"").replace(b"S002_P099", b"S002_P099S002_P099")
    changed = {"clips/id/bytes": np.frombuffer(twice, "u1"), "clips/id/offsets": np.array([0, 29, 38, 47])}
    file = CacheFile(rebuild(path, arrays=changed))
    for read in (lambda: file.ids, lambda: file.clip(0)):
        with pytest.raises(CacheError, match=re.escape(f"{path}: an id is in it twice; {REMEDY}")):
            read()


def test_text_that_is_not_utf8(path):
    with h5py.File(path, "r") as file:
        names = file["clips/id/bytes"][()]
    names[3] = 0xFF
    file = CacheFile(rebuild(path, arrays={"clips/id/bytes": names}))
    with pytest.raises(CacheError, match="/clips/id is not UTF-8 text"):
        _ = file.ids


def flip_first_byte(path, name):
    with h5py.File(path, "r") as file:
        offset = file[name].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_column_changed_in_place(path, name):
    """It is named, when it is read; what does not need it goes on."""
    intact = CacheFile(path)
    before = {other: intact.column(other) for other in COLUMNS}
    flip_first_byte(path, name)
    message = f"the index does not match its hash (/{name}); {REMEDY}"
    if name in READ_AT_ONCE:
        refused(path, message)
    else:
        refused_when_read(path, name, message)
        file = CacheFile(path)
        for other in set(COLUMNS) - {name}:
            np.testing.assert_array_equal(file.column(other), before[other], strict=True)


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("clips/id/bytes", lambda file: file.ids),
        ("clips/feature_hash", lambda file: file.read_frames(0)),
        ("clips/padding_hash", lambda file: file.read_frames(0, padding=True)),
        ("clips/prompt_row", lambda file: file.prompt_row(0)),
        ("clips/mi", lambda file: file.clip(0)),
        ("clips/position", lambda file: file.clip(0)),
        ("text/prompt/offsets", lambda file: file.prompts),
        ("text/feature_hash", lambda file: file.read_prompt(0)),
        ("text/offsets", lambda file: file.read_prompt(0)),
    ],
)
def test_a_changed_column_is_never_used(path, name, reads):
    flip_first_byte(path, name)
    file = CacheFile(path)
    for _ in range(2):  # the second time, too
        with pytest.raises(CacheError, match=re.escape(f"the index does not match its hash (/{name}); {REMEDY}")):
            reads(file)


def test_a_column_whose_hash_is_not_recorded(path):
    with h5py.File(path, "r") as file:
        hashes = json.loads(file.attrs["columns_json"])
    del hashes["clips/mi"], hashes["clips/ta"]
    rebuild(path, attributes={"columns_json": np.bytes_(json.dumps(hashes))})
    refused_when_read(path, "clips/mi", f"the index does not match its hash (/clips/mi); {REMEDY}")


def test_columns_are_read_when_they_are_first_asked_for_and_once(path, monkeypatch):
    reads = []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *arguments: reads.append(arguments[2]) or preadv(*arguments))
    file = CacheFile(path)
    assert len(reads) == len(READ_AT_ONCE)
    assert file.column("clips/mi") is file.column("clips/mi")
    assert len(reads) == len(READ_AT_ONCE) + 1
    with pytest.raises(ValueError, match="read-only"):
        file.column("clips/mi")[0] = 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("provenance_json", np.bytes_(json.dumps({"audio_encoder": {"untrained": False}}))),
        ("list_length", np.int64(4)),
        ("list_hash", np.bytes_(b"1" * 32)),
        ("complete", np.int64(0)),
        ("layers", np.bytes_(b"11")),
        ("split", np.bytes_(b"dev")),
        ("columns_json", np.bytes_(b"{}")),
        ("index_hash", np.bytes_(b"1" * 32)),
    ],
)
def test_attribute_changed_in_place(path, name, value):
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    refused(path, f"the index does not match its hash (attributes); {REMEDY}")


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
        offset = file[name].id.get_offset() + row * file[name][0].nbytes
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CacheError, match=re.escape(f"{path}, {what} do not match their hash; {REMEDY}")):
        content_of(path)


def test_flipped_bits_anywhere_are_seen_or_harmless(path, content_of):
    before, raw = content_of(path), path.read_bytes()
    flips = random.Random(2025).sample(range(8 * len(raw)), 100)
    refusals = 0
    for flip in flips:
        damaged = bytearray(raw)
        damaged[flip // 8] ^= 1 << flip % 8
        path.write_bytes(damaged)
        try:
            found = content_of(path)
        except CacheError:
            refusals += 1
            continue
        assert found == before, f"bit {flip % 8} of byte {flip // 8}"
    assert refusals > 50  # the rest hit bytes that HDF5 does not use


@pytest.mark.parametrize("keep_open", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "column", "shape", "missing"])
def test_a_refused_file_is_not_kept_open(path, damage, keep_open):
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "column":
        flip_first_byte(path, "audio/valid_frames")
    elif damage == "shape":
        rebuild(path, arrays={"clips/ta": np.zeros(2)})
    else:
        path.unlink()
    before = len(list(OPEN.iterdir()))
    for _ in range(5):
        with pytest.raises(CacheError):
            CacheFile(path, keep_open=keep_open)
    assert len(list(OPEN.iterdir())) == before


@pytest.mark.parametrize("value", [b"{", b"{}"])
def test_fingerprint_that_is_not_its_readable_form(path, value):
    refused(
        rebuild(path, attributes={"fingerprint_json": np.bytes_(value)}),
        "its fingerprint does not match its readable form",
    )
