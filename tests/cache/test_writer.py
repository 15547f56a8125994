import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audiomos_cache.cache import CacheReader, store
from audiomos_cache.cache.file import CacheFile
from audiomos_cache.cache.writer import PartWriter, done_clips, is_published, publish_split
from audiomos_cache.errors import CacheError


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
    return store.part_files(cache, "train")


def publish(sample, cache, ids=None, **options):
    order = ids or [clip.id for clip in sample.clips]
    return publish_split(cache, sample.header, order, done_clips(cache, "train"), **options)


def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def bytes_in(folder):
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def test_a_part_after_so_many_clips(many, cache):
    writer = writer_of(many, cache, clips_per_part=4)
    counts = []
    for i in range(0, 10, 3):  # batches of 3, 3, 3, 1
        writer.add(many.clips[i : i + 3], many.frames[i : i + 3])
        counts.append(len(store.part_files(cache, "train")))
    assert counts == [0, 1, 1, 2]
    writer.flush()
    assert sorted(CacheFile(path).ids for path in store.part_files(cache, "train")) == [
        [f"S{i:03d}_P001" for i in range(6)],
        [f"S{i:03d}_P001" for i in range(6, 10)],
    ]


def test_a_part_after_so_many_seconds(many, cache, monkeypatch):
    now = [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    writer = PartWriter(cache, many.header, {prompt.text: prompt for prompt in many.prompts}, _since=now[0])
    for i, (seconds, parts) in enumerate([(29.9, 0), (0.2, 1), (29.9, 1), (30, 2)]):
        now[0] += seconds
        writer.add(many.clips[i : i + 1], many.frames[i : i + 1])
        assert len(store.part_files(cache, "train")) == parts


def test_a_part_is_a_whole_cache_file_that_is_not_complete(many, cache):
    parts = write_parts(many, cache, clips_per_part=10)
    file = CacheFile(parts[0])
    assert file.header == replace(many.header, complete=False)
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
        assert repr(reader.clip(i)) == repr(clip)
        np.testing.assert_array_equal(reader.read_frames(i, padding=True), frames, strict=True)
        assert reader.read_prompt(i).text == clip.prompt


def test_the_file_does_not_depend_on_how_the_parts_were_cut(many, cache, tmp_path):
    write_parts(many, cache, clips_per_part=1)
    publish(many, cache)
    other = tmp_path / "other"
    other.mkdir()
    write_parts(many, other, clips_per_part=7)
    publish(many, other)
    assert bytes_in(cache) == bytes_in(other)
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
    np.testing.assert_array_equal(reader.frames, [len(rows) for rows in many.frames])
    for i, (clip, rows) in enumerate(zip(many.clips, many.frames, strict=True)):
        assert repr(reader.clip(i)) == repr(clip)
        np.testing.assert_array_equal(reader.read_frames(i, padding=True), rows, strict=True)
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
    assert not is_published(cache, "train")


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


def test_done_clips_of_parts_and_of_a_finished_split(many, cache):
    assert done_clips(cache, "train") == {}
    write_parts(many, cache)
    ids = [clip.id for clip in many.clips]
    publish(many, cache, ids[:4])
    writer_of(many, cache).flush()
    many.clips, many.frames = many.clips[4:], many.frames[4:]
    write_parts(many, cache)
    done = done_clips(cache, "train")
    assert sorted(done) == ids
    assert {path.path.name for path, _ in done.values()} > {"train.h5"}
    assert not is_published(cache, "train")
    publish(many, cache, ids)
    assert CacheReader(cache, "train").ids == ids
    assert names_in(cache) == ["train.h5"]
    assert is_published(cache, "train")


def test_damaged_frames_in_a_part_are_not_published(many, cache):
    part = write_parts(many, cache, clips_per_part=10)[0]
    raw = part.read_bytes()
    place = raw.index(many.frames[6].tobytes())
    part.write_bytes(raw[:place] + bytes([raw[place] ^ 64]) + raw[place + 1 :])
    with pytest.raises(CacheError, match=rf"{part.name}, clip S006_P001: the stored frames do not match their hash"):
        publish(many, cache)
    assert names_in(cache) == [f"train.parts/{part.name}"]


def test_everything_is_on_the_disk_before_it_gets_its_name(many, cache, monkeypatch):
    """The order of the system's calls: content, then name, then the folder that holds the name."""
    events = []

    def watch(name, describe):
        original = getattr(os, name)

        def call(*args, **kwargs):
            result = original(*args, **kwargs)
            events.append(describe(*args))
            return result

        monkeypatch.setattr(os, name, call)

    def short(path):
        return os.fspath(path).removeprefix(str(cache)).lstrip("/") or "."

    def content(path):
        path = cache / path
        return path.read_bytes() if path.is_file() else None

    def of_descriptor(descriptor):
        path = short(Path(f"/proc/self/fd/{descriptor}").readlink())
        return ("fsync", path, content(path))

    watch("fsync", of_descriptor)
    watch("link", lambda source, target: ("link", (short(source), short(target)), content(short(target))))
    watch("replace", lambda source, target: ("replace", (short(source), short(target)), content(short(target))))
    (part,) = write_parts(many, cache, clips_per_part=10)
    name = f"train.parts/{part.stem}"
    assert [event[:2] for event in events] == [
        ("fsync", "."),  # the new folder of parts
        ("fsync", f"{name}.part"),
        ("link", (f"{name}.part", f"{name}.h5")),
        ("fsync", "train.parts"),
    ]
    assert events[1][2] == events[2][2] == part.read_bytes()

    events.clear()
    publish(many, cache)
    assert [event[:2] for event in events] == [
        ("fsync", "train.h5.part"),
        ("link", ("train.h5.part", "train.h5")),
        ("fsync", "."),
        ("fsync", "."),  # the parts are gone
    ]
    assert events[0][2] == events[1][2] == (cache / "train.h5").read_bytes()

    events.clear()
    publish(many, cache)  # as where a clip was added
    assert [event[:2] for event in events] == [
        ("fsync", "train.h5.part"),
        ("replace", ("train.h5.part", "train.h5")),
        ("fsync", "."),
        ("fsync", "."),
    ]


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
    assert not is_published(cache, "train")
    store.clear_temporaries(cache, "train")
    publish(many, cache, bytes_per_file=160)
    assert bytes_in(cache) == bytes_in(expected)
    assert is_published(cache, "train")


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
    assert CacheReader(cache, "train").ids == ids[:8]  # still the old file
    store.clear_temporaries(cache, "train")
    publish(many, cache, ids, bytes_per_file=160)
    assert bytes_in(cache) == bytes_in(expected)


def test_interrupted_while_a_part_is_written_or_published(many, cache, monkeypatch):
    writer = writer_of(many, cache)
    writer.add(many.clips, many.frames)
    with monkeypatch.context() as patch:
        patch.setattr("audiomos_cache.cache.format.fsync", lambda _path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
    assert names_in(cache) == []
    with monkeypatch.context() as patch:
        die_at_link(patch, 1)
        with pytest.raises(Killed):
            writer.flush()
    writer.flush()  # goes on, though the part has its name already
    assert len(store.part_files(cache, "train")) == 1
    assert sorted(done_clips(cache, "train")) == [clip.id for clip in many.clips]
    writer.flush()
    assert len(store.part_files(cache, "train")) == 1
