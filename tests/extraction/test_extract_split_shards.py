"""Several processes that fill one split, each with a share of its batches."""

import itertools
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.paths import Shard, locked_split, part_files
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cli import main
from audiomos_cache.encoders import lookup
from audiomos_cache.errors import BusyError, CacheError, DataError
from audiomos_cache.extraction import extract_split as extract_split_module
from audiomos_cache.extraction.extract_split import extract_split, plan_only
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from audiomos_cache.testing.music import make_dataset
from tests.support.audio import MISSING
from tests.support.extraction import BOTH, OWN_LENGTH, PAD, LoggingEncoder, make_clips
from tests.support.faults import content


@pytest.fixture
def clips(tmp_path):
    """Ten clips: four batches in a row when they are padded, three lengths when they are not."""
    return make_clips(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def whole(clips, tmp_path):
    """The files of an extraction without shards, and its batches."""

    def extract_whole(options, clips=clips):
        audio = LoggingEncoder()
        extract_split(clips, tmp_path / "whole", audio, FakeTextEncoder(), options)
        return content(tmp_path / "whole"), audio.batches

    return extract_whole


def extract(clips, cache, index, count, options=PAD, audio=None, **others):
    options = replace(options, shard=Shard(index, count))
    return extract_split(clips, cache, audio or LoggingEncoder(), FakeTextEncoder(), options, **others)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@BOTH
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_the_last_shard_to_finish_writes_the_file(clips, cache, whole, options, order):
    expected, batches = whole(options)
    audio, seen = LoggingEncoder(), []
    summaries = [
        extract(clips, cache, i, 3, options, audio, progress=lambda *counts: seen.append(counts)) for i in order
    ]
    assert [summary.files for summary in summaries] == [[], [], [cache / "train.h5"]]
    done = list(itertools.accumulate(summary.encoded for summary in summaries))
    assert [(summary.clips, summary.missing) for summary in summaries] == [(count, 10 - count) for count in done]
    assert [total for done, total in seen if done == total] == [summary.encoded for summary in summaries]
    assert content(cache) == expected
    assert names_in(cache) == ["train.h5", "train.lock"]
    assert sorted(batch.tolist() for batch in audio.batches) == sorted(batch.tolist() for batch in batches)


def test_a_shard_leaves_parts_and_its_lock(clips, cache):
    """With a part of its clips, which `verify` and `merge` can read, and no file that `train-head` could."""
    extract(clips, cache, 2, 3)
    (part,) = part_files(cache, "train")
    assert names_in(cache) == ["train.2-of-3.lock", "train.lock", "train.parts"]
    file = CacheFile(part)
    assert file.ids == [clip.id for clip in clips[3:6]]
    assert list(file.column("clips/position")) == [3, 4, 5]
    assert (file.header.list_length, file.header.complete) == (10, False)
    with pytest.raises(CacheError, match="split 'train' not found"):
        CacheReader(cache, "train")


def test_shards_at_the_same_time(clips, tmp_path, whole):
    """All end at once, again and again: one of them writes the file, the others say that nothing is missing."""
    expected, _ = whole(PAD)
    for attempt in range(8):
        cache, start = tmp_path / f"cache-{attempt}", threading.Barrier(3)

        def work(index, cache=cache, start=start):
            start.wait()
            return extract(clips, cache, index, 3)

        with ThreadPoolExecutor(3) as pool:
            summaries = list(pool.map(work, (1, 2, 3)))
        assert sum(summary.encoded for summary in summaries) == 10
        writers = [summary for summary in summaries if summary.files]
        assert [(summary.clips, summary.missing) for summary in writers] == [(10, 0)]
        assert content(cache) == expected
        assert names_in(cache) == ["train.h5", "train.lock"]


def test_a_shard_that_ends_while_another_writes_the_file(clips, cache, monkeypatch):
    """It counted what is done while nobody could remove it, and reads no file that is just going."""
    extract(clips, cache, 1, 2)

    def locked_too_late(cache, name, shard=None):
        if shard is None:
            shutil.rmtree(cache / "train.parts")
            raise BusyError
        return locked_split(cache, name, shard)

    monkeypatch.setattr(extract_split_module, "locked_split", locked_too_late)
    summary = extract(clips, cache, 2, 2)
    assert (summary.clips, summary.encoded, summary.missing, summary.files) == (10, 4, 0, [])


def test_two_shards_each_of_which_ends_while_the_other_holds_its_lock(clips, cache, whole, monkeypatch):
    """One counted too early to see that nothing is missing, the other is done too early to write the file."""
    expected, _ = whole(PAD)
    finish, counted, other_ended = extract_split_module._finish, threading.Event(), threading.Event()

    def finish_slowly(*arguments, publish=True):
        finish(*arguments, publish=publish)
        if threading.current_thread() is not threading.main_thread() and not publish:
            counted.set()
            assert other_ended.wait(20)

    monkeypatch.setattr(extract_split_module, "_finish", finish_slowly)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(extract, clips, cache, 1, 2)
        assert counted.wait(20)
        second = extract(clips, cache, 2, 2)
        assert (second.clips, second.missing, second.files) == (10, 0, [])
        other_ended.set()
        assert (first.result(20).missing, first.result().files) == (0, [cache / "train.h5"])
    assert content(cache) == expected


def test_a_shard_that_ends_while_another_works(clips, cache, whole):
    """What it skipped is not left to the other."""
    clips[1].path.unlink()
    skip = replace(PAD, on_error="skip")
    expected, _ = whole(skip)
    with locked_split(cache, "train", Shard(2, 2)):
        summary = extract(clips, cache, 1, 2, skip)
    assert (summary.clips, summary.missing, summary.files) == (5, 4, [])
    extract(clips, cache, 2, 2, skip)
    assert content(cache) == expected


def test_a_shard_that_ends_lets_others_start(clips, cache, monkeypatch):
    """It asks for the whole split only where it could write its file."""
    asked = []

    def watch(cache, name, shard=None):
        asked.append(shard)
        return locked_split(cache, name, shard)

    monkeypatch.setattr(extract_split_module, "locked_split", watch)
    for index in (1, 2):
        extract(clips, cache, index, 2)
    assert asked == [Shard(1, 2), Shard(2, 2), None]


def test_who_may_write_beside_whom(clips, cache):
    audio = LoggingEncoder()
    holder = rf"cache: split 'train' is being written by process {os.getpid()} on \S+ since .*; wait for it to"
    with locked_split(cache, "train", Shard(1, 2)):
        with pytest.raises(BusyError, match=holder):
            extract(clips, cache, 1, 2, audio=audio)
        with pytest.raises(BusyError, match=holder):
            extract_split(clips, cache, audio, FakeTextEncoder(), PAD)
        assert not part_files(cache, "train")
        assert extract(clips, cache, 2, 2).missing == 6
    with locked_split(cache, "train"), pytest.raises(BusyError, match=holder):
        extract(clips, cache, 1, 2, audio=audio)
    assert audio.batches == []
    assert extract(clips, cache, 1, 2).files == [cache / "train.h5"]


def test_a_shard_clears_what_it_left_half_written_and_nothing_else(clips, cache):
    extract(clips, cache, 1, 3)
    parts = cache / "train.parts"
    own = "a.h5.2-of-3.host-12.part"
    others = {"a.h5.1-of-3.host-12.part", "a.h5.12-of-3.host-1.part", "a.h5.whole.host-1.part"}
    for name in (own, *others):
        (parts / name).write_bytes(b"half")
    extract(clips, cache, 2, 3)
    assert {path.name for path in parts.glob("*.part")} == others
    extract(clips, cache, 3, 3)
    assert names_in(cache) == ["train.h5", "train.lock"]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_who_writes_the_file_lists_what_the_others_skipped(clips, cache, whole, order):
    reasons = {}
    for place in (1, 4, 8):  # of batches 0, 1, 2: of shards 1, 2, 1
        clips[place].path.unlink()
        reasons[clips[place].id] = f"{clips[place].path}: {MISSING}"
    skip = replace(PAD, on_error="skip")
    expected, _ = whole(skip)
    summaries = {index: extract(clips, cache, index, 2, skip) for index in order}
    assert [dict(summaries[index].skipped).keys() for index in (1, 2)] == [
        {clips[1].id, clips[8].id},
        {clips[4].id},
    ]
    assert [summaries[index].missing for index in order] == [4 if order == (1, 2) else 6, 0]
    assert content(cache) == expected
    assert CacheReader(cache, "train").skipped == tuple(reasons.items())


def test_a_shard_of_skipped_clips_alone(clips, cache, whole):
    for clip in clips[3:6]:
        clip.path.unlink()
    skip = replace(PAD, on_error="skip")
    expected, _ = whole(skip)
    for index in (2, 1, 3):
        summary = extract(clips, cache, index, 3, skip)
    assert summary.files
    assert content(cache) == expected


def test_a_clip_that_was_skipped_and_is_mended(clips, cache, whole):
    expected, _ = whole(PAD)
    good = clips[4].path.read_bytes()
    clips[4].path.unlink()
    extract(clips, cache, 2, 2, replace(PAD, on_error="skip"))
    clips[4].path.write_bytes(good)
    assert extract(clips, cache, 2, 2).encoded == 1
    extract(clips, cache, 1, 2)
    assert content(cache) == expected


def test_a_bad_clip_stops_its_shard_alone(clips, cache, whole):
    expected, _ = whole(PAD)
    good = clips[4].path.read_bytes()
    clips[4].path.write_bytes(b"")
    with pytest.raises(DataError, match=f"{clips[4].path}: empty file"):
        extract(clips, cache, 2, 2)
    assert extract(clips, cache, 1, 2).missing == 4
    clips[4].path.write_bytes(good)
    assert extract(clips, cache, 2, 2).files == [cache / "train.h5"]
    assert content(cache) == expected


def test_an_interrupted_shard_goes_on(clips, cache, whole):
    expected, _ = whole(PAD)
    extract(clips, cache, 2, 2)
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, 1, 2, audio=LoggingEncoder(fails_at=1))
    assert extract(clips, cache, 1, 2).encoded == 3
    assert content(cache) == expected


def test_another_number_of_shards_or_none_goes_on(clips, cache, whole):
    expected, _ = whole(PAD)
    extract(clips, cache, 2, 2)  # batches 1 and 3 of 0 to 3
    assert [extract(clips, cache, index, 3).encoded for index in (3, 1)] == [3, 3]
    assert content(cache) == expected
    assert names_in(cache) == ["train.h5", "train.lock"]


def test_an_extraction_without_shards_finishes_their_work(clips, cache, whole):
    expected, _ = whole(PAD)
    extract(clips, cache, 2, 3)
    assert extract_split(clips, cache, LoggingEncoder(), FakeTextEncoder(), PAD).encoded == 7
    assert content(cache) == expected


def test_a_shard_of_a_finished_split_does_nothing(clips, cache):
    extract_split(clips, cache, LoggingEncoder(), FakeTextEncoder(), PAD)
    before = (cache / "train.h5").stat()
    summary = extract(clips, cache, 1, 2)
    assert (summary.clips, summary.encoded, summary.missing, summary.files) == (10, 0, 0, [cache / "train.h5"])
    after = (cache / "train.h5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@BOTH
def test_more_shards_than_batches(clips, cache, whole, options):
    expected, _ = whole(options)
    encoded = [extract(clips, cache, index, 6, options).encoded for index in (6, 5, 4, 3, 2, 1)]
    assert encoded[:2] == [0, 0]
    assert sum(encoded) == 10
    assert content(cache) == expected


@pytest.mark.parametrize("index", [1, 2])
def test_missing_audio_is_refused_by_the_shard_that_needs_it(clips, cache, index):
    """Of unequal lengths by all: without the length of each clip, they would not cut the same batches."""
    clips[4].path.unlink()
    audio = LoggingEncoder()
    with pytest.raises(DataError, match=f"audio files that the list names are missing: {clips[4].path}; add them"):
        extract(clips, cache, index, 2, OWN_LENGTH, audio)
    assert audio.batches == []
    if index == 2:
        with pytest.raises(DataError, match=f"missing: {clips[4].path}"):
            extract(clips, cache, index, 2, PAD)
    else:
        assert extract(clips, cache, index, 2, PAD).encoded == 6


def test_what_a_shard_takes(clips, cache):
    """The last one also writes the whole file; what is done is not done again."""
    plans = []
    for index in (1, 2):
        extract(clips, cache, index, 2, on_plan=plans.append)
        if index == 1:
            options = replace(PAD, shard=Shard(1, 2))
            again = plan_only(clips, cache, LoggingEncoder(), FakeTextEncoder(), options)
    assert [(plan.clips, plan.frames) for plan in plans] == [(6, 60), (4, 40)]
    assert [plan.final_bytes for plan in plans] == [10 * 10 * 4 * 2] * 2
    assert [plan.needed_bytes for plan in plans] == [800 + 6 * 80, 800 + 4 * 80]  # parts, and perhaps the whole file
    assert (again.clips, again.batches, again.needed_bytes) == (6, (), 800)


def test_shards_refuse_what_an_extraction_refuses(clips, cache):
    extract(clips, cache, 1, 2)
    audio = LoggingEncoder()
    with pytest.raises(CacheError, match="first difference: dtype is 'float16', expected 'float32'; give"):
        extract(clips, cache, 2, 2, replace(PAD, dtype="float32"), audio)
    changed = (replace(clips[0], mi=3.5), *clips[1:])
    with pytest.raises(CacheError, match=re.escape(f"was extracted before the dataset changed: {clips[0].id} (MI, TA")):
        extract(changed, cache, 2, 2, audio=audio)
    assert audio.batches == []
    for whole_only in ({"overwrite": True}, {"repair": True}):
        with pytest.raises(ValueError, match="a shard cannot be overwritten or repaired, only a whole split"):
            ExtractionOptions(shard=Shard(1, 2), **whole_only)


# The command line.


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset of four splits of eight clips each."""
    return make_dataset(tmp_path_factory.mktemp("music") / "data", prompts=3, seconds=(0.5, 1.0))


@pytest.fixture
def fakes(monkeypatch):
    audio, text = FakeAudioEncoder(), FakeTextEncoder()
    monkeypatch.setattr(lookup, "load_audio_encoder", lambda *_, **__: audio)
    monkeypatch.setattr(lookup, "load_text_encoder", lambda *_, **__: text)
    return audio, text


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


@pytest.mark.parametrize("shard", ["3/2", "x", "0/2", "1/0", "1/2/3", "1", "/2", "1/", "-1/2", "1.5/2", ""])
def test_no_such_shard(data, shard):
    result = run("extract", "--data", data, "--shard", shard)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--shard {shard or repr(shard)}: expected I/N with I from 1 to N, such as 1/4" in result.stderr


@pytest.mark.parametrize("option", ["--overwrite", "--repair"])
def test_a_shard_together_with_what_concerns_whole_splits(data, tmp_path, option):
    result = run("extract", "--data", data, "--shard", "1/2", option, "--cache", tmp_path / "cache")
    assert (result.exit_code, result.stdout) == (2, "")
    message = "--shard cannot be combined with --overwrite or --repair, which concern whole splits"
    assert result.stderr.splitlines()[-1] == f"Error: {message}"
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("fakes")
def test_shards_of_two_splits(data, tmp_path):
    cache = tmp_path / "cache"
    options = ("--data", data, "--cache", cache, "--pad-to", 1, "--split", "dev", "--split", "test", "--batch-size", 3)
    result = run("extract", *options, "--shard", "2/2")
    assert result.exit_code == 0
    lines = ["dev: 3 clips (3 encoded), 5 left to other shards", "test: 3 clips (3 encoded), 5 left to other shards"]
    assert result.stdout.splitlines() == lines
    assert "dev: 3 of 3 clips to encode, " in result.stderr
    result = run("extract", *options, "--shard", "1/2")
    assert result.stdout.splitlines() == [
        f"{name}: 8 clips (5 encoded) in {cache}/{name}.h5" for name in ("dev", "test")
    ]
    run("extract", *options[:-2], "--cache", tmp_path / "whole")
    assert content(cache) == content(tmp_path / "whole")


@pytest.mark.usefixtures("fakes")
def test_the_last_shard_that_may_not_write_the_file_says_so(data, tmp_path):
    cache = tmp_path / "cache"
    options = ("--data", data, "--cache", cache, "--split", "dev", "--batch-size", 4)
    run("extract", *options, "--shard", "1/2")
    with locked_split(cache, "dev", Shard(3, 3)):
        result = run("extract", *options, "--shard", "2/2")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith("dev: 8 clips (4 encoded); another shard is writing the file; if the disk has no locks, ")
    assert not (cache / "dev.h5").exists()
    assert run("extract", *options).stdout == f"dev: 8 clips (nothing left to do) in {cache}/dev.h5\n"


def test_dry_run_writes_nothing_and_says_what_there_is_to_do(data, tmp_path, fakes):
    audio, text = fakes
    audio.seconds_per_batch = 0.3
    cache = tmp_path / "cache"
    options = ("--data", data, "--cache", cache, "--pad-to", 1, "--batch-size", 3, "--split", "dev", "--split", "eval")
    result = run("extract", *options, "--dry-run")
    assert result.exit_code == 0
    size = 8 * 10 * 4 * 2  # clips, frames, width, bytes
    *plans, time = result.stdout.splitlines()
    final, needed = f"{size / 1e6:.1f} MB", f"{2 * size / 1e6:.1f} MB"
    expected = f"8 of 8 clips to encode, {final} when finished; up to {needed} more on the disk"
    for name, line in zip(("dev", "eval"), plans, strict=True):
        assert re.fullmatch(rf"{name}: {re.escape(expected)} until then, [\d.]+ [GM]B free", line), line
    assert re.fullmatch("about [2-9] s in all, estimated from one batch of 3 clips", time)  # 0.3 s for 3 of 16 clips
    assert not cache.exists()
    assert (audio.encoded, text.encoded) == (3, [])
    assert [path.name for path in tmp_path.iterdir()] == []


def everything_in(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_dry_run_of_a_split_that_is_partly_done(data, tmp_path, fakes):
    cache = tmp_path / "cache"
    options = ("--data", data, "--cache", cache, "--pad-to", "1", "--batch-size", "3", "--split", "dev")
    run("extract", *options, "--shard", "2/2")
    before = everything_in(cache)
    shares = (
        ((), "5 of 8"),
        (("--shard", "1/2"), "5 of 5"),
        (("--shard", "2/2"), "0 of 3"),
        (("--overwrite",), "8 of 8"),
    )
    for others, todo in shares:
        result = run("extract", *options, "--dry-run", *others)
        assert result.exit_code == 0
        first, *rest = result.stdout.splitlines()
        assert first.startswith(f"dev: {todo} clips to encode, ")
        assert len(rest) == (todo != "0 of 3")
    assert everything_in(cache) == before
    assert fakes[0].encoded == 3 + 2 + 2 + 3  # the shard, and a batch for each estimate


@pytest.mark.usefixtures("fakes")
def test_dry_run_refuses_what_the_run_would_refuse(data, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    options = ("--data", data, "--cache", cache, "--split", "dev")
    run("extract", *options)
    before = everything_in(cache)
    result = run("extract", *options, "--dry-run", "--dtype", "float32")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "first difference: dtype is 'float16', expected 'float32'; give another --cache" in result.stderr
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1))
    result = run("extract", *options, "--dry-run", "--overwrite")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "MB free on the disk, up to" in result.stderr
    assert everything_in(cache) == before


@pytest.mark.usefixtures("fakes")
def test_info_of_an_unfinished_cache(data, tmp_path):
    cache = tmp_path / "cache"
    options = ("--data", data, "--cache", cache, "--pad-to", "1", "--batch-size", "3")
    run("extract", *options, "--split", "test")
    run("extract", *options, "--split", "dev", "--shard", "2/2")
    result = run("info", cache)
    assert result.exit_code == 0
    assert "  dev: not finished, 3 of 8 clips are done" in result.stdout.splitlines()
    assert "test: not finished" not in result.stdout
    assert [line.split(" of ")[0] for line in result.stdout.splitlines()[1:3]] == ["  dev: 3 clips", "  test: 8 clips"]
    splits = json.loads(run("info", cache, "--json").stdout)["splits"]
    assert {name: (s["complete"], s["clips"], s["of"]) for name, s in splits.items()} == {
        "dev": (False, 3, 8),
        "test": (True, 8, 8),
    }
    assert splits["dev"]["files"] == [str(path) for path in part_files(cache, "dev")]


def test_layers_of_a_real_encoder(data, tmp_path):
    """Each of several layers is what an extraction of that layer alone gives."""
    options = ("--data", data, "--split", "dev", "--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny",
               "--pad-to", "1", "--device", "cpu")  # fmt: skip
    result = run("extract", *options, "--cache", tmp_path / "all", "--layers", "0,1,-1")
    assert result.stdout == f"dev: 8 clips (8 encoded) in {tmp_path}/all/dev.h5\n"
    reader = CacheReader(tmp_path / "all", "dev")
    assert reader.layers == (0, 1, 2)
    for layer in (0, 1, 2):
        run("extract", *options, "--cache", tmp_path / f"{layer}", "--layer", str(layer - 3))
        alone = CacheReader(tmp_path / f"{layer}", "dev")
        assert alone.layers == (layer,)
        for place in range(8):
            np.testing.assert_array_equal(reader.read_frames(place, layer=layer), alone.read_frames(place))
    assert not np.array_equal(reader.read_frames(0, layer=0), reader.read_frames(0, layer=1))
    assert run("verify", tmp_path / "all").stdout == "dev: 8 clips whole, 0 items damaged\n"
    assert "audio_encoder (layers 0, 1, 2): " in run("info", tmp_path / "all").stdout
    result = run("extract", *options, "--cache", tmp_path / "all", "--layers", "0,1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "first difference: audio_encoder.layers is '0,1,2', expected '0,1'; give another --cache" in result.stderr
    result = run("extract", *options, "--cache", tmp_path / "none", "--layers", "3")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "Error: --layers 3: muq-tiny has layers 0 to 2 (or -3 to -1)"
    result = run("extract", *options, "--layers", "last")
    assert result.exit_code == 2
    assert "'last' is not a layer such as -1, nor several such as 6,9,12" in result.stderr
    assert not (tmp_path / "none").exists()
