import errno
import os
import re
import shutil
import time
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import xxhash

from audiomos_cache.cache import paths as cache_paths
from audiomos_cache.cache import publish as publish_module
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.parts import PartWriter
from audiomos_cache.cache.publish import done_clips, publish_split, split_and_parts
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import AudiomosError, CacheError


@pytest.fixture
def many(sample):
    """Ten clips of 4 to 8 frames of 6 bytes, two prompts."""
    sample.clips, sample.frames = [], []
    for i in range(10):
        sample.add(f"S{i:03d}_P001", 4 + i % 5, 4, prompt=sample.prompts[i % 2].text, mi=1 + i / 4)
    return sample


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def writer_of(sample, cache, **options):
    return PartWriter(cache, sample.header, {prompt.text: prompt for prompt in sample.prompts}, **options)


def write_parts(sample, cache, clips_per_part=3):
    writer = writer_of(sample, cache, clips_per_part=clips_per_part)
    for clip, frames in zip(sample.clips, sample.frames, strict=True):
        writer.add([clip], [frames])
    writer.flush()
    return cache_paths.part_files(cache, "train")


def done_in(cache):
    return done_clips(split_and_parts(cache, "train"))


def publish(sample, cache, ids=None, **options):
    order = {clip_id: index for index, clip_id in enumerate(ids or [clip.id for clip in sample.clips])}
    return publish_split(cache, sample.header, order, done_in(cache), **options)


def is_whole(cache):
    """Whether the split can be read, and nothing else is next to its files."""
    try:
        reader = CacheReader(cache, "train")
    except CacheError:
        return False
    return names_in(cache) == [path.path.name for path in reader.files]


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def bytes_in(folder):
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def test_a_part_after_so_many_clips(many, cache):
    writer = writer_of(many, cache, clips_per_part=4)
    counts = []
    for i in range(0, 10, 3):  # batches of 3, 3, 3, 1
        writer.add(many.clips[i : i + 3], many.frames[i : i + 3])
        counts.append(len(cache_paths.part_files(cache, "train")))
    assert counts == [0, 1, 2, 3]
    writer.flush()
    assert sorted(CacheFile(path).ids for path in cache_paths.part_files(cache, "train")) == [
        [f"S{i:03d}_P001" for i in range(3)],
        [f"S{i:03d}_P001" for i in range(3, 6)],
        [f"S{i:03d}_P001" for i in range(6, 10)],
    ]


def test_a_part_after_so_many_seconds(many, cache, monkeypatch):
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    writer = PartWriter(cache, many.header, {prompt.text: prompt for prompt in many.prompts}, _since=now[0])
    for i, (seconds, parts) in enumerate([(29.9, 0), (0.2, 1), (29.9, 1), (30, 2)]):
        now[0] += seconds
        writer.add(many.clips[i : i + 1], many.frames[i : i + 1])
        assert len(cache_paths.part_files(cache, "train")) == parts


def test_a_part_is_a_whole_cache_file_that_is_not_complete(many, cache):
    parts = write_parts(many, cache, clips_per_part=10)
    file = CacheFile(parts[0])
    assert file.header == replace(many.header, complete=False, skipped=())  # what this writer skipped
    assert [repr(file.clip(i)) for i in range(10)] == [repr(clip) for clip in many.clips]
    assert names_in(cache) == [f"train.parts/{parts[0].name}"]
    shutil.copy(parts[0], cache / "train.h5")
    with pytest.raises(CacheError, match=r"split 'train' has files \[0\] of 1; a file is missing or was renamed; run"):
        CacheReader(cache, "train")


def test_flush_with_nothing_collected_writes_nothing(many, cache):
    writer_of(many, cache).flush()
    assert names_in(cache) == []


def test_parts_become_one_file_in_the_order_asked_for(many, cache):
    write_parts(many, cache)
    order = [clip.id for clip in reversed(many.clips)]
    assert publish(many, cache, order) == [cache / "train.h5"]
    assert names_in(cache) == ["train.h5"]
    assert not (cache / "train.parts").exists()
    reader = CacheReader(cache, "train")
    assert reader.ids == order
    assert reader.files[0].prompts == [many.prompts[1].text, many.prompts[0].text]
    for i, (clip, frames) in enumerate(zip(reversed(many.clips), reversed(many.frames), strict=True)):
        assert repr(reader.clip(i)) == repr(replace(clip, position=i))
        np.testing.assert_array_equal(reader.read_frames(i, padding=True), frames[0], strict=True)
        assert reader.read_prompt(i).text == clip.prompt


def test_the_file_does_not_depend_on_how_the_parts_were_cut(many, cache, tmp_path):
    write_parts(many, cache, clips_per_part=1)
    publish(many, cache)
    other = tmp_path / "other"
    other.mkdir()
    write_parts(many, other, clips_per_part=7)
    publish(many, other)
    assert bytes_in(cache) == bytes_in(other)
    many.header = CacheFile(cache / "train.h5").header
    many.write(tmp_path / "at-once.h5")
    assert (tmp_path / "at-once.h5").read_bytes() == (cache / "train.h5").read_bytes()


def test_a_large_split_becomes_several_files_that_are_read_as_one(many, cache):
    write_parts(many, cache)
    files = publish(many, cache, bytes_per_file=100)  # clips of 24, 30, 36, 42, 48 bytes, twice
    assert [path.name for path in files] == [f"train-{i:05d}.h5" for i in range(4)]
    assert [len(CacheFile(path)) for path in files] == [3, 2, 3, 2]  # of 90 bytes each
    reader = CacheReader(cache, "train")
    assert reader.ids == [clip.id for clip in many.clips]
    np.testing.assert_array_equal(reader.mi, [clip.mi for clip in many.clips])
    np.testing.assert_array_equal(reader.frames, [rows.shape[1] for rows in many.frames])
    for i, (clip, rows) in enumerate(zip(many.clips, many.frames, strict=True)):
        assert repr(reader.clip(i)) == repr(clip)
        np.testing.assert_array_equal(reader.read_frames(i, padding=True), rows[0], strict=True)
        assert reader.read_prompt(i).text == reader.prompt(i) == clip.prompt


def test_a_clip_larger_than_a_file_has_one_of_its_own(many, cache):
    write_parts(many, cache)
    assert len(publish(many, cache, bytes_per_file=1)) == 10
    assert CacheReader(cache, "train").ids == [clip.id for clip in many.clips]


@pytest.mark.parametrize(("missing", "left"), [(0, r"\[1, 2\]"), (1, r"\[0, 2\]"), (2, r"\[0, 1\]")])
def test_one_of_several_files_is_missing(many, cache, missing, left):
    write_parts(many, cache)
    files = publish(many, cache, bytes_per_file=160)
    assert len(files) == 3
    files[missing].unlink()
    with pytest.raises(CacheError, match=rf"cache: split 'train' has files {left} of 3; a file is missing or was ren"):
        CacheReader(cache, "train")
    assert not is_whole(cache)


def test_files_of_different_caches(many, cache, tmp_path):
    write_parts(many, cache)
    publish(many, cache, bytes_per_file=160)
    other = tmp_path / "other"
    other.mkdir()
    fields = many.header.fingerprint.fields | {"audio_encoder": {"class": "Fake", "layer": -2}}
    many.header = replace(many.header, fingerprint=type(many.header.fingerprint).of(fields))
    write_parts(many, other)
    publish(many, other, bytes_per_file=160)
    shutil.copy(other / "train-00001.h5", cache / "train-00001.h5")
    message = r"train-00001.h5: fingerprint \w{32}, expected \w{32}; first difference: audio_encoder.layer is -2, exp"
    with pytest.raises(CacheError, match=message):
        CacheReader(cache, "train")


def test_files_of_different_extractions_of_one_cache(many, cache, tmp_path):
    other = tmp_path / "other"
    for folder, ids in ((cache, None), (other, [clip.id for clip in reversed(many.clips)])):
        folder.mkdir(exist_ok=True)
        write_parts(many, folder)
        assert len(publish(many, folder, ids, bytes_per_file=160)) == 3
    shutil.copy(other / "train-00001.h5", cache / "train-00001.h5")
    with pytest.raises(CacheError, match=r"train-00001.h5: belongs to another extraction of split 'train'; extract it"):
        CacheReader(cache, "train")


def test_done_clips_of_parts_and_of_a_finished_split(many, cache):
    assert done_in(cache) == {}
    write_parts(many, cache)
    ids = [clip.id for clip in many.clips]
    publish(many, cache, ids[:4])
    writer_of(many, cache).flush()
    many.clips, many.frames = many.clips[4:], many.frames[4:]
    write_parts(many, cache)
    done = done_in(cache)
    assert sorted(done) == ids
    assert {path.path.name for path, _ in done.values()} > {"train.h5"}
    assert not is_whole(cache)
    publish(many, cache, ids)
    assert CacheReader(cache, "train").ids == ids
    assert names_in(cache) == ["train.h5"]
    assert is_whole(cache)


def test_a_split_that_is_published_is_not_written_again(many, cache):
    """But a part that a kill left next to it is removed."""
    (part,) = write_parts(many, cache, clips_per_part=10)
    kept = part.read_bytes()
    (file,) = publish(many, cache)
    before = (file.stat().st_ino, file.stat().st_mtime_ns)
    part.parent.mkdir()
    part.write_bytes(kept)
    assert publish(many, cache) == [file]
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == before
    assert is_whole(cache)


@pytest.mark.parametrize("change", ["position", "list", "skipped"])
def test_a_split_of_which_more_is_known_is_written_again(many, cache, change):
    write_parts(many, cache)
    publish(many, cache)
    order = {clip.id: index for index, clip in enumerate(many.clips)}
    if change == "position":  # a clip was put in the list, and skipped
        order = {clip_id: index + 1 for clip_id, index in order.items()}
    elif change == "list":
        many.header = replace(many.header, list_hash="1" * 32)
    else:
        many.header = replace(many.header, skipped=(("S777_P001", "empty"),))
    publish_split(cache, many.header, order, done_in(cache))
    reader = CacheReader(cache, "train")
    assert [reader.clip(i).position for i in range(10)] == list(order.values())
    assert reader.skipped == many.header.skipped
    assert reader.files[0].header.list_hash == many.header.list_hash
    assert is_whole(cache)


@pytest.mark.parametrize("changed", [0, 4])
def test_other_features_of_the_same_clips_are_written_again(many, cache, tmp_path, changed):
    """As after a repair on another machine: frames of audio, or of padding."""
    write_parts(many, cache)
    publish(many, cache)
    clips, many.clips, many.frames = many.clips, [], []
    for clip in clips:
        many.add(clip.id, clip.frames, clip.valid_frames, prompt=clip.prompt, mi=clip.mi)
    clip, rows = many.clips[9], many.frames[9]
    rows[0, changed] += 1
    hashes = [xxhash.xxh3_128_digest(part.tobytes()) for part in (rows[0, :4], rows[0, 4:])]
    many.clips[9] = replace(clip, feature_hash=(hashes[0],), padding_hash=(hashes[1],))
    write_parts(many, tmp_path)
    publish_split(cache, many.header, {clip.id: i for i, clip in enumerate(clips)}, done_in(tmp_path))
    assert is_whole(cache)
    reader = CacheReader(cache, "train")
    np.testing.assert_array_equal(reader.read_frames(9, padding=True), rows[0], strict=True)


def test_progress_of_several_files(many, cache):
    write_parts(many, cache)
    calls = []
    publish(many, cache, bytes_per_file=100, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(3, 10), (5, 10), (8, 10), (10, 10)]


def test_skipped_clips_are_told_with_the_next_part(many, cache):
    writer = writer_of(many, cache)
    writer.skip("S777_P001", "empty")
    writer.add(many.clips[:2], many.frames[:2])
    writer.flush()
    writer.flush()
    (first,) = split_and_parts(cache, "train")
    assert first.header.skipped == (("S777_P001", "empty"),)
    writer.skip("S778_P001", "no audio")
    writer.flush()  # a part without clips
    files = {file.path: file for file in split_and_parts(cache, "train")}
    del files[first.path]
    (second,) = files.values()
    assert (second.header.skipped, len(second), second.ids) == ((("S778_P001", "no audio"),), 0, [])
    assert len(done_in(cache)) == 2
    publish(many, cache, [clip.id for clip in many.clips[:2]])
    assert is_whole(cache)


def test_parts_of_several_layers_become_one_file(many, cache):
    write_parts(many.with_layers(3, 7), cache)
    publish(many, cache)
    reader = CacheReader(cache, "train")
    assert reader.layers == (3, 7)
    for i, rows in enumerate(many.frames):
        for which, layer in enumerate((3, 7)):
            found = reader.read_frames(i, layer=layer, padding=True)
            np.testing.assert_array_equal(found, rows[which], strict=True)


def test_layers_count_for_the_size_of_a_file(many, cache):
    write_parts(many.with_layers(3, 7), cache)
    assert len(publish(many, cache, bytes_per_file=200)) == 4  # as with 100 bytes of one layer


def test_damaged_frames_in_a_part_are_not_published(many, cache):
    part = write_parts(many, cache, clips_per_part=10)[0]
    raw = part.read_bytes()
    offset = raw.index(many.frames[6].tobytes())
    part.write_bytes(raw[:offset] + bytes([raw[offset] ^ 64]) + raw[offset + 1 :])
    with pytest.raises(CacheError, match=rf"{part.name}, clip S006_P001: the stored frames do not match their hash"):
        publish(many, cache)
    assert names_in(cache) == [f"train.parts/{part.name}"]


class SystemCalls:
    """Notes the system's calls on files in a folder: (call, path, content of the file after it)."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.events = folder, []
        for call in ("fsync", "preadv", "link", "rename", "unlink"):
            monkeypatch.setattr(os, call, partial(self._call, call, getattr(os, call)))

    def _call(self, call, original, target, *arguments, **options):
        result = original(target, *arguments, **options)
        files = (target, *arguments) if call in ("link", "rename") else (target,)
        paths = [self._path_of(file, **options) for file in files]
        names = (re.sub(r"\.h5\.whole\.\S+\.part$", ".part", str(path.relative_to(self.folder))) for path in paths)
        self.events.append((call, *names, paths[-1].read_bytes() if paths[-1].is_file() else None))
        return result

    @staticmethod
    def _path_of(file, dir_fd=None):
        if isinstance(file, int):
            return Path(f"/proc/self/fd/{file}").readlink()
        return Path(f"/proc/self/fd/{dir_fd}").readlink() / file if dir_fd is not None else file

    def take(self):
        """Give what was noted since: the calls without contents, runs of reads as one, and the contents by call."""
        events, self.events = self.events, []
        return [key for key, _ in groupby(event[:-1] for event in events)], {event[:-1]: event[-1] for event in events}


def test_everything_is_on_the_disk_before_it_gets_its_name(many, cache, monkeypatch):
    """The order of the system's calls: content, a look at it, the name, the folder that holds the name."""
    nine, last = (replace(many, clips=many.clips[a:b], frames=many.frames[a:b]) for a, b in ((0, 9), (9, 10)))
    system = SystemCalls(cache, monkeypatch)
    (part,) = write_parts(nine, cache, clips_per_part=10)
    temporary, name = f"train.parts/{part.stem}.part", f"train.parts/{part.name}"
    calls, contents = system.take()
    assert calls == [
        ("fsync", "."),  # the new folder of parts
        ("fsync", temporary),
        ("preadv", temporary),
        ("link", temporary, name),
        ("fsync", "train.parts"),
        ("unlink", temporary),
    ]
    assert contents["fsync", temporary] == contents["link", temporary, name] == part.read_bytes()

    publish(nine, cache)
    calls, contents = system.take()
    assert calls == [
        ("preadv", name),
        ("fsync", "train.part"),
        ("preadv", "train.part"),
        ("link", "train.part", "train.h5"),
        ("fsync", "."),
        ("unlink", "train.part"),
        ("unlink", name),
        ("fsync", "."),
    ]
    published = (cache / "train.h5").read_bytes()
    assert contents["fsync", "train.part"] == contents["link", "train.part", "train.h5"] == published

    (part,) = write_parts(last, cache)
    system.take()
    publish(many, cache)  # as where a clip was skipped and is fixed since
    calls, contents = system.take()
    old = f"train.parts/{cache_paths.part_path(cache, 'train', ['train.h5', *(clip.id for clip in nine.clips)]).name}"
    reads = [call for call in calls if call[0] == "preadv" and call != ("preadv", "train.part")]
    assert set(reads) == {("preadv", "train.h5"), ("preadv", f"train.parts/{part.name}")}
    calls = [call for call in calls if call not in reads]
    removed = [calls.pop(-2), calls.pop(-2)]
    assert calls == [
        ("fsync", "train.part"),
        ("preadv", "train.part"),
        ("rename", "train.h5", old),  # back among the parts
        ("fsync", "train.parts"),
        ("fsync", "."),
        ("link", "train.part", "train.h5"),
        ("fsync", "."),
        ("unlink", "train.part"),
        ("fsync", "."),
    ]
    assert sorted(removed) == sorted([("unlink", old), ("unlink", f"train.parts/{part.name}")])
    assert contents["rename", "train.h5", old] == published
    new = (cache / "train.h5").read_bytes()
    assert contents["fsync", "train.part"] == contents["link", "train.part", "train.h5"] == new != published


def test_several_files_are_all_on_the_disk_before_the_first_gets_its_name(many, cache, monkeypatch):
    write_parts(many, cache)
    system = SystemCalls(cache, monkeypatch)
    files = publish(many, cache, bytes_per_file=160)
    calls, contents = system.take()
    names = [path.name for path in files]
    temporaries = [f"{path.stem}.part" for path in files]
    assert len(names) == 3
    order = [call for call in calls if call[0] in ("fsync", "link") or call[1] in temporaries]
    expected = [call for temporary in temporaries for call in (("fsync", temporary), ("preadv", temporary))]
    for temporary, name in zip(temporaries, names, strict=True):
        expected += [("link", temporary, name), ("fsync", "."), ("unlink", temporary)]
    assert order == [*expected, ("fsync", ".")]
    for temporary, name in zip(temporaries, names, strict=True):
        assert contents["fsync", temporary] == contents["link", temporary, name] == (cache / name).read_bytes()


def failing(call, number, code):
    """A function of the system that fails at the given call of it, and from then on."""
    original, calls = getattr(os, call), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) >= number:
            raise OSError(code, os.strerror(code))
        return original(*arguments)

    return fail


FAILURES = pytest.mark.parametrize(
    ("call", "code"),
    [("posix_fallocate", errno.ENOSPC), ("pwrite", errno.ENOSPC), ("pwrite", errno.EIO), ("preadv", errno.EIO)],
)


@FAILURES
def test_a_part_that_cannot_be_written_is_not_acknowledged(many, cache, monkeypatch, call, code):
    writer = writer_of(many, cache)
    writer.add(many.clips, many.frames)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(call, 1, code))
        with pytest.raises(CacheError, match=os.strerror(code)):
            writer.flush()
    assert names_in(cache) == []
    assert done_in(cache) == {}
    writer.flush()  # what was collected is given up
    assert names_in(cache) == []


@pytest.mark.parametrize(("number", "what"), [(1, "cache"), (2, r"\.part"), (3, r"train\.parts")])
def test_a_disk_that_cannot_be_forced_is_named(many, cache, monkeypatch, number, what):
    """The new folder of parts, the part, its name. An error after that may leave the name: the part is whole."""
    writer = writer_of(many, cache)
    writer.add(many.clips, many.frames)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing("fsync", number, errno.EIO))
        with pytest.raises(
            AudiomosError, match=rf"{what}: Input/output error; check the disk and run the command again"
        ):
            writer.flush()
    assert sorted(done_in(cache)) == ([clip.id for clip in many.clips] if number == 3 else [])


@FAILURES
@pytest.mark.parametrize("file", [1, 2, 3])
def test_a_split_that_cannot_be_written_stays_in_its_parts(many, cache, monkeypatch, call, code, file):
    """Whichever of its files it is that fails."""
    write_parts(many, cache)
    before, made = bytes_in(cache), []
    done, write = done_in(cache), publish_module.write_file

    def write_file(*arguments):
        made.append(arguments)
        if len(made) == file:
            patch.setattr(os, call, failing(call, 1, code))
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(publish_module, "write_file", write_file)
        with pytest.raises(CacheError, match=os.strerror(code)):
            publish_split(cache, many.header, dict.fromkeys(done, 0), done, bytes_per_file=160)
    assert len(made) == file
    assert bytes_in(cache) == before
    publish(many, cache, bytes_per_file=160)
    assert is_whole(cache)


@pytest.mark.parametrize("what", ["frames", "labels", "ids"])
def test_what_the_disk_does_not_give_back_is_not_published(many, cache, monkeypatch, what):
    """A disk that says nothing and keeps something else."""
    target = {
        "frames": many.frames[3][0],
        "labels": np.array([clip.mi for clip in many.clips]),
        "ids": np.frombuffer("".join(clip.id for clip in many.clips).encode(), "u1"),
    }[what].tobytes()
    pwrite, flipped = os.pwrite, []

    def forgetful(descriptor, data, position):
        data = bytes(data)
        if data == target:
            flipped.append(position)
            data = bytes([data[0] ^ 1]) + data[1:]
        return pwrite(descriptor, data, position)

    message = r"\.part: reads back differently from what was written \(.*; check the disk$"
    writer = writer_of(many, cache)
    writer.add(many.clips, many.frames)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", forgetful)
        with pytest.raises(CacheError, match=message):
            writer.flush()
    assert names_in(cache) == []
    (part,) = write_parts(many, cache, clips_per_part=10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", forgetful)
        with pytest.raises(CacheError, match=message):
            publish(many, cache)
    assert names_in(cache) == [f"train.parts/{part.name}"]
    assert len(flipped) == 2


class Killed(BaseException):
    pass


def die_at_link(monkeypatch, number):
    """Die right after the given link is made."""
    link, made = os.link, []

    def dying(source, target):
        link(source, target)
        made.append(target)
        if len(made) == number:
            raise Killed

    monkeypatch.setattr(os, "link", dying)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_while_several_files_are_published(many, cache, tmp_path, monkeypatch, number):
    write_parts(many, cache)
    expected = tmp_path / "expected"
    shutil.copytree(cache, expected)
    publish(many, expected, bytes_per_file=160)
    with monkeypatch.context() as patch:
        die_at_link(patch, number)
        with pytest.raises(Killed):
            publish(many, cache, bytes_per_file=160)
    assert not is_whole(cache)
    cache_paths.clear_temporaries(cache, "train")
    publish(many, cache, bytes_per_file=160)
    assert bytes_in(cache) == bytes_in(expected)
    assert is_whole(cache)


@pytest.mark.parametrize("number", [1, 3])
def test_killed_while_one_file_becomes_several(many, cache, tmp_path, monkeypatch, number):
    write_parts(many, cache)
    expected = tmp_path / "expected"
    shutil.copytree(cache, expected)
    ids = [clip.id for clip in many.clips]
    publish(many, expected, bytes_per_file=160)
    publish(many, cache, ids[:8])
    many.clips, many.frames = many.clips[8:], many.frames[8:]
    write_parts(many, cache)
    with monkeypatch.context() as patch:
        die_at_link(patch, number)
        with pytest.raises(Killed):
            publish(many, cache, ids, bytes_per_file=160)
    assert not (cache / "train.h5").exists()  # it is among the parts
    assert sorted(done_in(cache)) == ids
    cache_paths.clear_temporaries(cache, "train")
    publish(many, cache, ids, bytes_per_file=160)
    assert bytes_in(cache) == bytes_in(expected)


@pytest.mark.parametrize("moment", ["rename", "link"])
def test_killed_while_a_file_is_succeeded_by_one_with_more_clips(many, cache, tmp_path, monkeypatch, moment):
    write_parts(many, cache)
    expected = tmp_path / "expected"
    shutil.copytree(cache, expected)
    ids = [clip.id for clip in many.clips]
    publish(many, expected)
    publish(many, cache, ids[:8])
    many.clips, many.frames = many.clips[8:], many.frames[8:]
    write_parts(many, cache)

    def dying(*_arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, moment, dying)
        with pytest.raises(Killed):
            publish(many, cache, ids)
    assert sorted(done_in(cache)) == ids
    cache_paths.clear_temporaries(cache, "train")
    publish(many, cache, ids)
    assert bytes_in(cache) == bytes_in(expected)


def test_interrupted_while_a_part_is_written_or_published(many, cache, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    writer = writer_of(many, cache)
    writer.add(many.clips, many.frames)
    for moment in ("pwrite", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, moment, interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.flush()
        assert names_in(cache) == []
    with monkeypatch.context() as patch:
        die_at_link(patch, 1)
        with pytest.raises(Killed):
            writer.flush()
    writer.flush()  # goes on, though the part has its name already
    assert len(cache_paths.part_files(cache, "train")) == 1
    assert sorted(done_in(cache)) == [clip.id for clip in many.clips]
    writer.flush()
    assert len(cache_paths.part_files(cache, "train")) == 1
