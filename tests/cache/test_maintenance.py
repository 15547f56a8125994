"""However a split is cut into shards and parts, and wherever it is killed: the same bytes as in one go."""

import os
import re
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.maintenance import merge
from audiomos_cache.cache.parts import PartWriter
from audiomos_cache.cache.paths import Shard
from audiomos_cache.cache.publish import publish_split
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.verify import verify_file
from audiomos_cache.cli import main
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.errors import ArgumentError, CacheError, OutputExistsError
from audiomos_cache.extraction import extract_split as split
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from tests.support.audio import MISSING
from tests.support.faults import Killed, content, killed_at

PROMPTS = ("slow organ", "ein Stück für Flöte 🎵", "organ", "ゆっくり した オルガン")
OPTIONS = {"pad_to_s": 1.0, "batch_size": 2}
MOMENTS = st.tuples(st.just("pwrite"), st.integers(1, 120)) | st.tuples(
    st.sampled_from(("fsync", "link", "unlink", "rmdir")), st.integers(1, 4)
)


@pytest.fixture(scope="module")
def clip_of(tmp_path_factory):
    """Make the clip of a number, so many frames long, with one of the prompts."""
    folder = tmp_path_factory.mktemp("wav")

    def make(number, frames, prompt, split="train"):
        path = folder / f"{number}-{frames}.wav"
        if not path.exists():
            samples = np.repeat((number + np.arange(frames)) / 1024, 100).astype(np.float32)
            soundfile.write(path, samples, 1000, subtype="FLOAT")
        mi = None if number == 2 else 1 + number / 4
        return Clip(f"S{number % 3:03d}_é{20 - number}", path, f"S{number % 3:03d}", f"P{prompt}", PROMPTS[prompt],
                    split, mi, mi)  # fmt: skip

    return make


def extract(clips, cache, layers=(0,), **options):
    return extract_split(clips, cache, FakeAudioEncoder(layers=layers), FakeTextEncoder(), ExtractionOptions(**options))


def reader_of(cache, split="train"):
    """The clips of a split in plain values: id, position, label, prompt, and a hash of the frames."""
    reader = CacheReader(cache, split)
    records = [reader.clip(i) for i in range(len(reader))]
    return [(c.id, c.position, c.prompt, c.frames, c.feature_hash, c.padding_hash) for c in records]


@contextmanager
def cut_into(clips_per_part, bytes_per_file=10**9):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split, "PartWriter", partial(PartWriter, clips_per_part=clips_per_part))
        patch.setattr(split, "publish_split", partial(publish_split, bytes_per_file=bytes_per_file))
        yield


@pytest.mark.slow
def test_any_shards_parts_and_kills_give_the_same_bytes(clip_of, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # its order is tested elsewhere
    covered = Counter()

    def killed_then_repeated(kills, work):
        for call, number in kills:
            with suppress(Killed), killed_at(call, number) as died:
                work()
            covered.update(died)
        return work()

    @settings(max_examples=80, deadline=None, derandomize=True, database=None)
    @given(
        lengths=st.lists(st.integers(1, 20) | st.integers(1, 750), min_size=1, max_size=12),
        prompts=st.lists(st.integers(0, 3), min_size=12, max_size=12),
        batch_size=st.integers(1, 4),
        pad_to_s=st.sampled_from((None, 2.0)),
        layers=st.sampled_from(((0,), (0, 3))),
        clips_per_part=st.integers(1, 6),
        bytes_per_file=st.sampled_from((200, 10**9)),
        count=st.sampled_from((2, 3, 4, 1)),
        order=st.randoms(use_true_random=False),
        one_folder=st.booleans(),
        kills=st.lists(st.lists(MOMENTS, min_size=1, max_size=2), min_size=5, max_size=5),
    )
    def check(lengths, prompts, batch_size, pad_to_s, layers, clips_per_part, bytes_per_file, count, order, one_folder,
              kills):  # fmt: skip
        clips = [clip_of(number, frames, prompts[number]) for number, frames in enumerate(lengths)]
        shards = [Shard(index + 1, count) for index in range(count)]
        order.shuffle(shards)
        features = {"pad_to_s": pad_to_s, "layers": layers}
        with TemporaryDirectory() as folder, cut_into(clips_per_part, bytes_per_file):
            whole, out = Path(folder, "whole"), Path(folder, "out")
            extract(clips, whole, **features, batch_size=3)
            sources = [out if one_folder else Path(folder, shard.label) for shard in shards]
            for shard, source, moments in zip(shards, sources, kills, strict=False):
                work = partial(extract, clips, source, **features, batch_size=batch_size, shard=shard)
                killed_then_repeated(moments, work)
            if not one_folder:
                before = [content(source) for source in sources]
                killed_then_repeated(kills[4], partial(merge, sources, out, bytes_per_file=bytes_per_file))
                assert [content(source) for source in sources] == before
            assert content(out) == content(whole)
            covered["in one folder" if one_folder else "merged"] += count > 1
            covered["several files"] += len(content(out)) > 1

    check()
    assert min(covered["in one folder"], covered["merged"], covered["several files"]) >= 3, covered
    assert min(covered[call] for call in ("pwrite", "fsync", "link", "unlink")) >= 3, covered


@pytest.fixture
def clips(clip_of):
    """Ten clips of 1 to 10 frames."""
    return [clip_of(number, number + 1, number % 4) for number in range(10)]


@pytest.fixture
def shards_of(tmp_path):
    """Extract clips into a folder per shard."""

    def extract_shards(clips, count=3, **options):
        folders = [tmp_path / f"shard-{index}" for index in range(1, count + 1)]
        for index, folder in enumerate(folders, 1):
            extract(clips, folder, shard=Shard(index, count), **OPTIONS | options)
        return folders

    return extract_shards


def test_a_clip_twice(clips, tmp_path):
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    extract(clips[:6], a, **OPTIONS)
    extract(clips[4:], b, **OPTIONS)
    message = (
        f"split 'train': clips that are in two caches: {clips[4].id} ({a}, {b}), {clips[5].id} ({a}, {b}); "
        "leave one cache out"
    )
    with pytest.raises(CacheError, match=re.escape(message)):
        merge([a, b], out)
    assert not out.exists()


def test_a_cache_twice(clips, tmp_path):
    extract(clips[:4], tmp_path / "a", **OPTIONS)
    with pytest.raises(ArgumentError, match=f"^given more than once: {tmp_path}/b/../a; give each cache once$"):
        merge([tmp_path / "a", f"{tmp_path}/b/../a"], tmp_path / "out")


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "in parts"])
def test_other_fingerprints(clips, tmp_path, finished):
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    extract(clips[:5], a, **OPTIONS)
    extract(clips[5:], b, **OPTIONS | {"pad_to_s": 1.5}, shard=None if finished else Shard(1, 2))
    forms = [CacheFile(path).header.fingerprint.json for path in (*b.rglob("*.h5"), a / "train.h5")]
    with pytest.raises(CacheError) as caught:
        merge([a, b], out)
    first, found, expected = str(caught.value).splitlines()
    assert first.startswith(f"{b}/train.")
    assert "; first difference: max_seconds is 1.5, expected 1.0; only caches of one fingerprint can be merged" in first
    assert f"{a}/train.h5 has the other" in first
    assert [found, expected] == [f"  found:    {forms[0]}", f"  expected: {forms[1]}"]
    assert not out.exists()


def test_a_shard_is_missing(clips, tmp_path, shards_of):
    first, _, third = shards_of(clips)
    with pytest.raises(CacheError, match="split 'train': 4 of 10 clips are in none of the caches; give the folders of"):
        merge([first, third], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_split(clips, tmp_path, shards_of):
    sources = shards_of(clips)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(
            CacheError, match=f"{folder}: no split in it, expected one, finished or not; give folders of"
        ):
            merge([*sources, folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shards_without_clips_are_no_error(clips, tmp_path, shards_of):
    """Of two clips, two of three shards have none."""
    sources = shards_of(clips[:2])
    extract(clips[:2], tmp_path / "whole", **OPTIONS)
    assert [len(content(source)) for source in sources] == [1, 0, 0]
    merge(sources, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    with pytest.raises(CacheError, match=f"{sources[1]}: no split in it"):
        merge(sources[1:], tmp_path / "other")


def test_out_is_one_of_the_sources(clips, tmp_path, shards_of):
    sources = shards_of(clips)
    before = [content(source) for source in sources]
    (tmp_path / "link").symlink_to(sources[1])
    for out in (sources[1], tmp_path / "link", tmp_path / "shard-1" / ".." / "shard-2"):
        with pytest.raises(OutputExistsError, match=f"{out}: is one of the caches to merge, which stay as they are; g"):
            merge(sources, out)
    assert [content(source) for source in sources] == before


def test_out_holds_other_clips(clips, tmp_path, shards_of):
    sources, out = shards_of(clips[:9]), tmp_path / "out"
    extract(clips[8:], out, **OPTIONS)
    before = content(out)
    message = f"{out}/train.h5: exists already and holds other clips: {clips[9].id}; give another --out"
    with pytest.raises(OutputExistsError, match=re.escape(message)):
        merge(sources, out)
    assert content(out) == before


def test_out_holds_a_split_of_another_fingerprint(clips, tmp_path, shards_of):
    sources, out = shards_of(clips), tmp_path / "out"
    extract([replace(clip, split="dev") for clip in clips], out, pad_to_s=2.0)
    before = content(out)
    message = r"dev\.h5: fingerprint .* max_seconds is 2\.0, expected 1\.0; only caches of one"
    with pytest.raises(CacheError, match=message):
        merge(sources, out)
    assert content(out) == before


@pytest.mark.parametrize("damage", ["frames", "index"])
def test_a_damaged_source(clips, tmp_path, shards_of, damage):
    sources, out = shards_of(clips), tmp_path / "out"
    (path,) = sources[1].rglob("*.h5")
    file = CacheFile(path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(file.read_frames(1).tobytes() if damage == "frames" else file.ids[1].encode())] ^= 1
    path.write_bytes(raw)
    before = [content(source) for source in sources]
    what = f", clip {file.ids[1]}: the stored frames" if damage == "frames" else ": the index"
    with pytest.raises(CacheError, match=f"{path}{what} do(es)? not match"):
        merge(sources, out)
    assert [content(source) for source in sources] == before
    assert not out.exists() or content(out) == {}


def test_two_datasets_come_one_after_the_other(clips, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    extract(clips[6:], a, **OPTIONS)
    extract(clips[:6], b, **OPTIONS)
    for name, sources, expected in (("ab", (a, b), clips[6:] + clips[:6]), ("ba", (b, a), clips)):
        (merged,) = merge(sources, tmp_path / name).splits
        assert (merged.split, merged.clips, merged.files) == ("train", 10, [tmp_path / name / "train.h5"])
        found = reader_of(tmp_path / name)
        assert [(row[0], row[1]) for row in found] == [(clip.id, index) for index, clip in enumerate(expected)]
        alone = {row[0]: row[2:] for source in sources for row in reader_of(source)}
        assert {row[0]: row[2:] for row in found} == alone
        reader = CacheReader(tmp_path / name, "train")
        assert reader.files[0].header.list_length == 10
        assert [verify_file(path).damaged for path in merged.files] == [[]]
    headers = [CacheReader(tmp_path / name, "train").files[0].header for name in ("ab", "ba")]
    assert headers[0].list_hash != headers[1].list_hash


def test_datasets_in_shards_and_merge_of_merged(clips, tmp_path):
    """Shards of two datasets, in any order of the arguments, and what was merged before."""
    folders = {}
    for name, own in (("a", clips[:5]), ("b", clips[5:])):
        for index in (1, 2):
            folders[name, index] = tmp_path / f"{name}{index}"
            extract(own, folders[name, index], **OPTIONS, shard=Shard(index, 2))
    merge([folders[key] for key in (("a", 2), ("b", 1), ("a", 1), ("b", 2))], tmp_path / "ab")
    assert [row[:2] for row in reader_of(tmp_path / "ab")] == [(clip.id, index) for index, clip in enumerate(clips)]
    for name in "ab":
        merge([folders[name, 1], folders[name, 2]], tmp_path / name)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert content(tmp_path / "merged") == content(tmp_path / "ab")
    merge([tmp_path / "merged"], tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "ab")


@pytest.mark.parametrize(
    "moment",
    [("pwrite", 9), ("pwrite", 60), ("fsync", 1), ("fsync", 3), ("link", 1), ("link", 2), ("link", 3), ("unlink", 1)],
)
def test_an_interrupted_merge_is_repeated(clips, tmp_path, shards_of, moment):
    sources = shards_of(clips)
    merge_again = partial(merge, sources, bytes_per_file=300)
    merge_again(tmp_path / "expected")
    assert len(content(tmp_path / "expected")) == 4
    with pytest.raises(Killed), killed_at(*moment):
        merge_again(tmp_path / "out")
    assert content(tmp_path / "out") != content(tmp_path / "expected")
    merge_again(tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "expected")


def test_a_merge_that_is_done_is_left_alone(clips, tmp_path, shards_of):
    sources, out = shards_of(clips), tmp_path / "out"
    merge(sources, out)
    before = (out / "train.h5").stat()
    (merged,) = merge(sources, out).splits
    after = (out / "train.h5").stat()
    assert merged.files == [out / "train.h5"]
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_skipped_clips_survive(clips, tmp_path, shards_of):
    bad = replace(clips[4], path=tmp_path / "none.wav")
    clips = [*clips[:4], bad, *clips[5:]]
    sources = shards_of(clips, on_error="skip")
    extract(clips, tmp_path / "whole", **OPTIONS, on_error="skip")
    merge(sources, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    reason = f"{bad.path}: {MISSING}"
    assert CacheReader(tmp_path / "out", "train").skipped == ((bad.id, reason),)


def test_a_clip_that_a_shard_skipped_and_did_later_is_no_longer_skipped(clips, tmp_path, shards_of):
    bad = replace(clips[4], path=tmp_path / "none.wav")
    sources = shards_of([*clips[:4], bad, *clips[5:]], on_error="skip")
    shards_of(clips)
    extract(clips, tmp_path / "whole", **OPTIONS)
    merge(sources, tmp_path / "out")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_several_splits_some_of_which_a_source_lacks(clips, tmp_path):
    a, b, whole = tmp_path / "a", tmp_path / "b", tmp_path / "whole"
    dev = [replace(clip, split="dev") for clip in clips[:3]]
    extract(clips, a, **OPTIONS, shard=Shard(1, 2))
    extract(clips, b, **OPTIONS, shard=Shard(2, 2))
    extract(dev, b, **OPTIONS)
    for own in (clips, dev):
        extract(own, whole, **OPTIONS)
    merged = merge([a, b], tmp_path / "out").splits
    assert [(each.split, each.clips) for each in merged] == [("dev", 3), ("train", 10)]
    assert content(tmp_path / "out") == content(whole)


def test_sources_of_several_files(clips, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    with cut_into(2, bytes_per_file=100):
        extract(clips[:5], a, **OPTIONS)
        extract(clips[5:], b, **OPTIONS)
    assert len(content(a)) == 5
    merge([a, b], tmp_path / "out")
    extract(clips[:5], tmp_path / "one a", **OPTIONS)
    extract(clips[5:], tmp_path / "one b", **OPTIONS)
    merge([tmp_path / "one a", tmp_path / "one b"], tmp_path / "expected")
    assert content(tmp_path / "out") == content(tmp_path / "expected")
    assert list(content(tmp_path / "out")) == ["train.h5"]


def test_progress_and_command_line(clips, tmp_path, shards_of):
    sources, out = shards_of(clips), tmp_path / "out"
    calls = []
    merge(sources, tmp_path / "other", bytes_per_file=300, progress=lambda *counts: calls.append(counts))
    assert calls == [("merge train", done, 10) for done in (3, 6, 9, 10)]
    result = CliRunner().invoke(main, ["merge", *map(str, sources), "--out", str(out)])
    assert result.exit_code == 0
    assert result.stdout == f"train: 10 clips in {out}/train.h5\n"
    assert result.stderr == "merge train: 10 of 10 clips, 0 s\n"
    result = CliRunner().invoke(main, ["merge", *map(str, sources[1:]), "--out", str(tmp_path / "new")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: split 'train': 4 of 10 clips are in none of the caches; give the folders")
    assert CliRunner().invoke(main, ["merge", "--out", str(out)]).exit_code == 2
