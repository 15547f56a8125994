import errno
import os
import re
import shutil
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import xxhash

from audiomos_cache import input_spec
from audiomos_cache.cache import publish
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.parts import PartWriter
from audiomos_cache.cache.paths import Shard, locked_split, part_files
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.verify import verify_file, verify_split
from audiomos_cache.errors import BusyError, CacheError, DataError, EncoderError
from audiomos_cache.extraction import batching as waveforms
from audiomos_cache.extraction import extract_split as extract_split_module
from audiomos_cache.extraction import pipeline, plan
from audiomos_cache.extraction import plan as plan_module
from audiomos_cache.extraction.batching import encode_prompts
from audiomos_cache.extraction.extract_split import extract_split, plan_only
from audiomos_cache.extraction.plan import estimate_seconds
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from tests.support.audio import MISSING
from tests.support.extraction import (
    BOTH,
    OWN_LENGTH,
    PAD,
    PROMPTS,
    LoggingEncoder,
    clean_bytes,
    extract,
    make_clips,
    wave_of,
    write_wav,
)

SHARD = Shard(1, 2)


class OutOfMemoryError(RuntimeError):
    pass


@pytest.fixture
def clips(tmp_path):
    return make_clips(tmp_path / "data")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch):
    """Names of the clips that are decoded."""
    names = []

    def decode(path, *args):
        names.append(path.stem)
        return original(path, *args)

    original = pipeline.read_audio
    monkeypatch.setattr(pipeline, "read_audio", decode)
    return names


@pytest.fixture
def parts_of(monkeypatch):
    """Make parts as small as asked for."""

    def set_size(clips):
        monkeypatch.setattr(extract_split_module, "PartWriter", partial(PartWriter, clips_per_part=clips))

    return set_size


def by_hand(samples, frames):
    """What the fake encoder's docstring promises for these samples, zero-padded to so many frames."""
    mean = np.array([np.mean(block) for block in np.pad(samples, (0, 100 * frames - len(samples))).reshape(-1, 100)])
    return np.stack([mean, mean**2, -mean, mean + 1], axis=1).astype("f2")


@BOTH
def test_features_labels_and_order(clips, cache, options):
    audio, text = LoggingEncoder(), FakeTextEncoder()
    summary = extract(clips, cache, options, audio, text)
    assert (summary.split, summary.clips, summary.encoded, summary.skipped) == ("train", 10, 10, [])
    assert summary.files == [cache / "train.h5"]
    reader = CacheReader(cache, "train")
    assert reader.ids == [clip.id for clip in clips]
    assert reader.files[0].prompts == list(PROMPTS)  # by first use
    assert sorted(text.encoded) == sorted(PROMPTS)  # each once, though ten clips have them
    for i, clip in enumerate(clips):
        own = 3 + 2 * (i % 3)
        stored = 10 if options is PAD else own
        expected = by_hand(wave_of(i, own), stored)
        assert reader.valid_frames[i] == own
        np.testing.assert_array_equal(reader.read_frames(i, padding=True), expected, strict=True)
        np.testing.assert_array_equal(reader.read_frames(i), expected[:own], strict=True)
        found = reader.clip(i)
        assert (found.system, found.prompt_id, found.prompt) == (clip.system, clip.prompt_id, clip.prompt)
        assert found.duration_s == own / 10
        labels = [np.nan, np.nan] if i == 2 else [clip.mi, clip.ta]
        np.testing.assert_array_equal([found.mi, found.ta], labels)
        words = clip.prompt.split()
        prompt = reader.read_prompt(i)
        assert prompt.text == clip.prompt
        letters = np.array([[len(word), place] for place, word in enumerate(words)], "f2")
        np.testing.assert_array_equal(prompt.tokens, letters, strict=True)
        np.testing.assert_array_equal(prompt.pad_vector, np.full(2, len(words), "f2"), strict=True)
    assert sorted(path.name for path in cache.iterdir()) == ["train.h5", "train.lock"]


@BOTH
def test_several_layers(clips, cache, tmp_path, options):
    audio = LoggingEncoder(layers=(0, 2, 5))
    extract(clips, cache, options, audio)
    reader = CacheReader(cache, "train")
    assert reader.layers == (0, 2, 5)
    extract(clips, tmp_path / "one", options)
    one = CacheReader(tmp_path / "one", "train")
    for i, clip in enumerate(clips):
        own = 3 + 2 * (i % 3)
        mean = np.pad((i + np.arange(own)) / 16, (0, 10 - own if options is PAD else 0))
        columns = np.stack([mean, mean**2, -mean, mean + 1], axis=1)
        for layer in (0, 2, 5):
            found = reader.read_frames(i, layer=layer, padding=True)
            np.testing.assert_array_equal(found, (columns + layer).astype("f2"), strict=True, err_msg=clip.id)
        first = reader.clip(i)
        assert first.feature_hash[0] == one.clip(i).feature_hash[0]
        assert len(set(first.feature_hash)) == 3
    assert reader.fingerprint != one.fingerprint


def test_nan_in_one_of_several_layers_is_named(clips, cache):
    class NanInLayer5(LoggingEncoder):
        def encode(self, waveforms):
            encoded = super().encode(waveforms)
            encoded[1, 2] = float("nan")
            return encoded

    with pytest.raises(EncoderError, match=rf"{clips[2].id}: fake-audio gives NaN or Inf as float16"):
        extract(clips[:3], cache, audio=NanInLayer5(layers=(0, 5)))


@BOTH
def test_files_say_where_their_clips_stand_in_the_list(clips, cache, options):
    """By the dataset's list, in which two are skipped."""
    for i in (1, 7):
        clips[i].path.write_bytes(b"")
    extract(clips, cache, replace(options, on_error="skip"))
    reader = CacheReader(cache, "train")
    assert [reader.clip(i).position for i in range(8)] == [0, 2, 3, 4, 5, 6, 8, 9]
    header = reader.files[0].header
    assert header.list_hash == xxhash.xxh3_128_hexdigest("\n".join(clip.id for clip in clips).encode())
    assert (header.list_length, header.complete) == (10, True)
    assert len(header.split_hash) == 32


def test_parts_say_where_their_clips_stand_in_the_list(clips, cache):
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, OWN_LENGTH, LoggingEncoder(fails_at=2))  # clips 0, 3, 6 and 9
    (part,) = part_files(cache, "train")
    file = CacheFile(part)
    positions = {clip.id: place for place, clip in enumerate(clips)}
    assert [file.clip(i).position for i in range(4)] == [positions[clip_id] for clip_id in file.ids] == [0, 3, 6, 9]
    assert (file.header.list_length, file.header.complete, file.header.split_hash) == (10, False, "")


def test_a_plan_is_told_before_it_is_carried_out(clips, cache, monkeypatch):
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=10**9))
    plans, audio = [], LoggingEncoder()

    def note(told):
        assert audio.batches == []
        plans.append(told)

    extract(clips[:4], cache)
    foreseen = plan_only(clips, cache, audio, FakeTextEncoder(), PAD)
    extract(clips, cache, audio=audio, on_plan=note)
    (told,) = plans
    assert told == foreseen
    assert (told.split, told.clips, told.todo) == ("train", 10, {clip.id for clip in clips[4:]})
    assert [len(batch) for batch in told.batches] == [2, 3, 1]
    frame_bytes = 4 * 2
    assert (told.frames, told.final_bytes) == (6 * 10, 10 * 10 * frame_bytes)
    assert (told.needed_bytes, told.free_bytes) == ((6 + 10) * 10 * frame_bytes, 10**9)
    extract(clips, cache, audio=audio, on_plan=plans.append)
    assert (plans[1].batches, plans[1].frames, plans[1].needed_bytes) == ((), 0, 0)
    assert plans[1].final_bytes == told.final_bytes


def test_a_plan_alone_writes_nothing_and_refuses_the_same(clips, tmp_path):
    encoders = LoggingEncoder(layers=(0, 1)), FakeTextEncoder()
    cache = tmp_path / "no" / "such" / "folder"
    planned = plan_only(clips, cache, *encoders, OWN_LENGTH)
    assert planned.frames == 4 * 3 + 3 * 5 + 3 * 7
    assert planned.final_bytes == planned.frames * 2 * 4 * 2  # two layers, four columns
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert (encoders[0].batches, encoders[1].encoded) == ([], [])
    extract(clips, cache, audio=LoggingEncoder(), options=PAD)
    before = [(path, path.stat().st_mtime_ns) for path in sorted(cache.iterdir())]
    with pytest.raises(
        CacheError, match=r"first difference: audio_encoder\.layers is '0', expected '0,1'; give another"
    ):
        plan_only(clips, cache, *encoders, PAD)
    assert len(plan_only(clips, cache, *encoders, replace(PAD, overwrite=True)).todo) == 10
    with pytest.raises(CacheError, match="holds clips that the dataset does not list"):
        plan_only(clips[1:], cache, LoggingEncoder(), FakeTextEncoder(), PAD)
    assert [(path, path.stat().st_mtime_ns) for path in sorted(cache.iterdir())] == before


@pytest.mark.parametrize(("warm_up", "batches"), [(False, 1), (True, 2)])
def test_an_estimate_times_one_batch(clips, cache, monkeypatch, warm_up, batches):
    now = [0.0]
    monkeypatch.setattr(plan.time, "perf_counter", lambda: now[0])

    class SlowEncoder(LoggingEncoder):
        def encode(self, waveforms):
            now[0] += 5 / (1 + len(self.batches))  # the first one is slower
            return super().encode(waveforms)

    audio = SlowEncoder()
    planned = plan_only(clips, cache, audio, FakeTextEncoder(), OWN_LENGTH)
    seconds = estimate_seconds(planned, audio, OWN_LENGTH, warm_up=warm_up)
    assert [batch.shape for batch in audio.batches] == [(3, 500)] * batches
    assert seconds == pytest.approx(5 / batches / 15 * 48)  # 15 frames of 48
    extract(clips, cache, OWN_LENGTH)
    assert estimate_seconds(plan_only(clips, cache, audio, FakeTextEncoder(), OWN_LENGTH), audio, OWN_LENGTH,
                            warm_up=warm_up) == 0  # fmt: skip


def test_provenance_says_untrained(clips, cache):
    extract(clips, cache)
    provenance = CacheReader(cache, "train").provenance
    assert [provenance[key]["name"] for key in ("audio_encoder", "text_encoder")] == ["fake-audio", "fake-text"]
    assert all("untrained" in str(provenance[key]) for key in provenance)


@pytest.mark.parametrize(
    ("samples", "valid"), [(50, 1), (99, 1), (100, 1), (199, 1), (350, 3), (999, 9), (1000, 10), (1001, 10), (1700, 10)]
)
def test_valid_frames_of_a_padded_clip(clips, cache, samples, valid):
    """Frames that hold audio alone, but one at least; a long clip is cut, and said to be."""
    wave = np.resize(np.array([0.25, -0.5], np.float32), samples)
    write_wav(clips[0].path, wave)
    summary = extract(clips[:1], cache)
    reader = CacheReader(cache, "train")
    assert (int(reader.valid_frames[0]), int(reader.frames[0])) == (valid, 10)
    np.testing.assert_array_equal(reader.read_frames(0, padding=True), by_hand(wave[:1000], 10), strict=True)
    assert reader.clip(0).duration_s == samples / 1000
    warned = {50: "0.050 s long, expected 0.1 s or more", 99: "0.099 s long", 1001: "1.00 s long", 1700: "1.70 s long"}
    assert len(summary.warnings) == (samples in warned)
    assert warned.get(samples, "") in "".join(summary.warnings)


@pytest.mark.parametrize(("samples", "valid", "stored"), [(50, 1, 1), (350, 3, 3), (40_000, 300, 300)])
def test_valid_frames_of_a_clip_at_its_own_length(clips, cache, samples, valid, stored):
    """A clip below the encoder's shortest is padded to it, and one of more than 30 s is cut."""
    write_wav(clips[0].path, np.full(samples, 0.25, np.float32))
    extract(clips[:1], cache, OWN_LENGTH)
    reader = CacheReader(cache, "train")
    assert (int(reader.valid_frames[0]), int(reader.frames[0])) == (valid, stored)


def test_padding_to_less_than_the_encoder_can_take(clips, cache):
    extract(clips, cache, replace(PAD, pad_to_s=0.05))
    reader = CacheReader(cache, "train")
    assert set(reader.frames) == set(reader.valid_frames) == {1}


def test_own_length_batches_have_one_length_and_no_padding(clips, cache):
    audio = LoggingEncoder()
    extract(clips, cache, OWN_LENGTH, audio)
    assert [batch.shape for batch in audio.batches] == [(3, 300), (1, 300), (3, 500), (3, 700)]
    assert all((batch[:, -1] != 0).all() for batch in audio.batches)


def test_own_length_batches_where_headers_mislead(clips, cache, monkeypatch):
    """Headers only sort the clips: what has one length is decided by the samples."""
    monkeypatch.setattr(waveforms, "decoded_length", lambda *_: 0)
    audio = LoggingEncoder()
    extract(clips, cache, OWN_LENGTH, audio)
    assert sum(map(len, audio.batches)) == 10
    assert CacheReader(cache, "train").ids == [clip.id for clip in clips]
    np.testing.assert_array_equal(CacheReader(cache, "train").frames, [3 + 2 * (i % 3) for i in range(10)])


def test_batch_size_changes_no_byte(clips, tmp_path):
    files = [clean_bytes(clips, tmp_path / f"{size}", replace(PAD, batch_size=size)) for size in (1, 3, 32)]
    assert files[0] == files[1] == files[2]


def test_float32(clips, cache):
    write_wav(clips[0].path, np.full(300, 1 / 3, np.float32))
    extract(clips, cache, replace(PAD, dtype="float32"))
    frames = CacheReader(cache, "train").read_frames(0)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames[0], [1 / 3, 1 / 9, -1 / 3, 4 / 3], rtol=1e-6)


@BOTH
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OutOfMemoryError])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_interrupted_extraction_goes_on_and_ends_with_the_same_bytes(
    clips, cache, tmp_path, options, failure, batches, decoded, parts_of
):
    expected = clean_bytes(clips, tmp_path / "clean", options)
    parts_of(2)
    interrupted = LoggingEncoder(fails_at=batches, failure=failure)
    with pytest.raises(failure):
        extract(clips, cache, options, interrupted)
    kept = {clip_id for part in part_files(cache, "train") for clip_id in CacheFile(part).ids}
    assert len(kept) == sum(map(len, interrupted.batches))
    assert not (cache / "train.h5").exists()

    decoded.clear()
    seen = []
    audio = LoggingEncoder()
    summary = extract(clips, cache, options, audio, progress=lambda done, total: seen.append((done, total)))
    assert sorted(decoded) == sorted({clip.id for clip in clips} - kept)
    assert summary.encoded == sum(map(len, audio.batches)) == 10 - len(kept)
    assert [total for _, total in seen] == [10] * len(seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[0][0] > len(kept)
    assert seen[-1] == (10, 10)
    assert (cache / "train.h5").read_bytes() == expected
    assert not (cache / "train.parts").exists()
    whole = LoggingEncoder()
    extract(clips, tmp_path / "whole", options, whole)
    assert [batch.tolist() for batch in interrupted.batches + audio.batches] == [
        batch.tolist() for batch in whole.batches
    ]


def test_interrupted_again_and_again(clips, cache, tmp_path):
    expected = clean_bytes(clips, tmp_path / "clean")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            extract(clips, cache, audio=LoggingEncoder(fails_at=1))
    assert len(part_files(cache, "train")) == 3
    assert extract(clips, cache).encoded == 1
    assert (cache / "train.h5").read_bytes() == expected


@pytest.mark.parametrize(
    ("options", "sizes"), [(PAD, [2, 3, 1]), (OWN_LENGTH, [1, 1, 2, 2])], ids=["pad", "own length"]
)
def test_batches_are_those_of_the_whole_split(clips, cache, options, sizes):
    """Of frames [3, 5, 7, 3, ...], what is done of a batch is left out of it, and nothing fills the gap."""
    extract(clips[:4], cache, options)
    audio = LoggingEncoder()
    extract(clips, cache, options, audio)
    assert [len(batch) for batch in audio.batches] == sizes


def test_what_a_killed_run_left_half_written_is_not_read(clips, cache, tmp_path):
    expected = clean_bytes(clips, tmp_path / "clean")
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, audio=LoggingEncoder(fails_at=2))
    (cache / "train.h5.whole.host-12.part").write_bytes(expected[:1000])
    (cache / "train.parts" / "0123456789abcdef.h5.whole.host-12.part").write_bytes(b"half")
    extract(clips, cache)
    assert (cache / "train.h5").read_bytes() == expected
    assert sorted(path.name for path in cache.iterdir()) == ["train.h5", "train.lock"]


@BOTH
def test_a_finished_split_is_left_alone(clips, cache, options, decoded):
    extract(clips, cache, options)
    file = cache / "train.h5"
    before = (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino)
    decoded.clear()
    audio, text = LoggingEncoder(), FakeTextEncoder()
    summary = extract(clips, cache, options, audio, text)
    assert (summary.clips, summary.encoded, summary.files) == (10, 0, [file])
    assert (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) == before
    assert (audio.batches, text.encoded, decoded) == ([], [], [])


def test_audio_older_than_its_features_is_not_read_again(clips, cache, monkeypatch):
    extract(clips, cache)
    monkeypatch.setattr(plan_module.xxhash, "xxh3_128_digest", lambda _: pytest.fail("read"))
    assert extract(clips, cache).encoded == 0


def test_other_audio_with_an_old_time_is_noticed(clips, cache):
    """As `cp -p` and rsync leave it."""
    extract(clips, cache)
    write_wav(clips[4].path, wave_of(40, 5))
    os.utime(clips[4].path, (1, 1))
    with pytest.raises(CacheError, match=re.escape(f"extracted before the dataset changed: {clips[4].id} (audio)")):
        extract(clips, cache)


def test_the_good_cache_is_kept_where_overwriting_does_not_fit(clips, cache, monkeypatch):
    extract(clips, cache)
    before = (cache / "train.h5").read_bytes()
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=-len(before)))
    with pytest.raises(CacheError, match="free on the disk, up to"):
        extract(clips, cache, replace(PAD, overwrite=True))
    assert (cache / "train.h5").read_bytes() == before


def test_features_of_two_encoders_never_become_one_split(clips, cache):
    """As where two shards began in an empty folder at once, each with its own encoder."""
    halves = [replace(PAD, shard=Shard(index, 2)) for index in (1, 2)]
    extract(clips, cache, halves[0])
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache.with_name("other"), audio=LoggingEncoder(layers=(1,), fails_at=1))
    for part in part_files(cache.with_name("other"), "train"):
        shutil.copy(part, cache / "train.parts" / f"zz{part.name}")
    for others in (halves[1], PAD):
        with pytest.raises(CacheError, match=r"first difference: audio_encoder\.layers is '1', expected '0'"):
            extract(clips, cache, others)
    assert not (cache / "train.h5").exists()
    damaged = [line for report in verify_split(cache, "train") for line in report.damaged]
    assert len(damaged) == 1
    assert "has another fingerprint than" in damaged[0]


def test_an_interrupt_while_a_part_is_read_back_keeps_its_clips(clips, cache, monkeypatch):
    """And ends as an interrupt: the part is written again on the way out."""
    checked = []

    def interrupted(path):
        checked.append(path)
        if len(checked) == 1:
            raise KeyboardInterrupt
        return verify_file(path)

    monkeypatch.setattr(publish, "verify_file", interrupted)
    monkeypatch.setattr(extract_split_module, "PartWriter", partial(PartWriter, clips_per_part=3))
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache)
    monkeypatch.undo()
    assert len(part_files(cache, "train")) == 1
    assert extract(clips, cache).encoded == 7


def test_shards_of_other_batches_are_refused(clips, cache):
    extract(clips, cache, replace(PAD, shard=Shard(1, 2)))
    with pytest.raises(CacheError, match="its shard has batches of 3 clips, this one of 2; give --batch-size 3 to eve"):
        extract(clips, cache, replace(PAD, shard=Shard(2, 2), batch_size=2))


def test_the_audio_may_go_once_it_is_cached(clips, cache):
    extract(clips, cache)
    shutil.rmtree(clips[0].path.parent)
    assert extract(clips, cache).encoded == 0


def test_a_bad_clip_stops_by_name_and_keeps_what_is_done(clips, cache, tmp_path, decoded):
    expected = clean_bytes(clips, tmp_path / "clean")
    good = clips[7].path.read_bytes()
    clips[7].path.write_bytes(b"RIFF" + b"no audio" * 9)
    message = rf"{clips[7].id}.wav: not audio, .*; or leave such clips out with --on-error skip"
    audio = LoggingEncoder()
    with pytest.raises(DataError, match=message):
        extract(clips, cache, audio=audio)
    assert sum(map(len, audio.batches)) == 6
    clips[7].path.write_bytes(good)
    decoded.clear()
    extract(clips, cache)
    assert sorted(decoded) == sorted(clip.id for clip in clips[6:])
    assert (cache / "train.h5").read_bytes() == expected


@BOTH
def test_skipped_clips_are_listed_and_added_once_fixed(clips, cache, tmp_path, options, decoded):
    expected = clean_bytes(clips, tmp_path / "clean", options)
    skip = replace(options, on_error="skip")
    good = {i: clips[i].path.read_bytes() for i in (1, 7)}
    clips[1].path.unlink()
    clips[7].path.write_bytes(b"")
    summary = extract(clips, cache, skip)
    reasons = dict(summary.skipped)
    assert set(reasons) == {clips[1].id, clips[7].id}
    assert reasons[clips[1].id] == f"{clips[1].path}: {MISSING}"
    assert reasons[clips[7].id].startswith(f"{clips[7].path}: empty file (0 bytes)")
    assert (summary.clips, summary.encoded) == (8, 8)
    reader = CacheReader(cache, "train")
    assert sorted(reader.skipped) == sorted(summary.skipped)
    assert reader.ids == [clip.id for i, clip in enumerate(clips) if i not in good]

    before = (cache / "train.h5").read_bytes()
    again = extract(clips, cache, skip)
    assert (again.clips, again.encoded, sorted(again.skipped)) == (8, 0, sorted(summary.skipped))
    assert (cache / "train.h5").read_bytes() == before
    with pytest.raises(DataError, match=f"audio files that the list names are missing: {clips[1].path}; add them"):
        extract(clips, cache, options)

    for i, content in good.items():
        clips[i].path.write_bytes(content)
    decoded.clear()
    assert extract(clips, cache, skip).encoded == 2
    assert sorted(decoded) == sorted(clips[i].id for i in good)
    assert (cache / "train.h5").read_bytes() == expected


def test_nan_features_are_named(clips, cache, monkeypatch):
    """By a value beyond float16: 0.25 million squared."""
    monkeypatch.setattr("audiomos_cache.audio.samples.LOUDEST", 1000)
    write_wav(clips[4].path, np.full(300, 500, np.float32))
    problem = "fake-audio gives NaN or Inf as float16 (--dtype float32 holds larger values)"
    message = f"{clips[4].id}: {problem}; check {clips[4].path}; or leave such clips out"
    with pytest.raises(EncoderError, match=re.escape(message)):
        extract(clips, cache)
    summary = extract(clips, cache, replace(PAD, on_error="skip"))
    assert summary.skipped == [(clips[4].id, message.partition("; or leave")[0])]
    assert (summary.encoded, summary.clips) == (6, 9)
    assert clips[4].id not in CacheReader(cache, "train").ids
    assert CacheReader(cache, "train").skipped == tuple(summary.skipped)
    assert extract(clips, cache.with_name("wide"), replace(PAD, dtype="float32")).encoded == 10, "as the message says"


def test_nan_features_in_float32_are_not_said_to_be_too_large(clips, cache):
    class NotFinite(FakeAudioEncoder):
        def encode(self, waveforms):
            return super().encode(waveforms) * float("nan")

    with pytest.raises(EncoderError, match=rf"{clips[0].id}: fake-audio gives NaN or Inf as float32; check "):
        extract(clips, cache, replace(PAD, dtype="float32"), audio=NotFinite())


def test_nan_prompt_features_are_named(clips, cache):
    clips = (replace(clips[0], prompt="a " + "o" * 70_000), *clips[1:])
    with pytest.raises(EncoderError, match=r"prompt 'a o+\.\.\.o+': fake-text gives NaN or Inf as float16"):
        extract(clips, cache)


def test_missing_audio_is_listed_before_anything_is_encoded(clips, cache):
    for clip in clips[:6]:
        clip.path.unlink()
    audio, text = LoggingEncoder(), FakeTextEncoder()
    listed = ", ".join(str(clip.path) for clip in clips[:5])
    message = f"split 'train': audio files that the list names are missing: {listed}, ... (6 in all); add them, or"
    with pytest.raises(DataError, match=re.escape(message)):
        extract(clips, cache, audio=audio, text=text)
    assert (audio.batches, text.encoded) == ([], [])


def test_missing_prompts_are_listed_before_anything_is_encoded(clips, cache):
    clips = (*clips[:8], replace(clips[8], prompt=None), replace(clips[9], prompt=None))
    audio = LoggingEncoder()
    message = (
        f"split 'train': no prompt for {clips[8].id} (P002), {clips[9].id} (P001); add them to the prompt list, or"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        extract(clips, cache, audio=audio)
    assert audio.batches == []
    summary = extract(clips, cache, replace(PAD, on_error="skip"))
    assert summary.skipped == [
        (clip.id, f"{clip.id}: no prompt for {clip.prompt_id}; add it to the prompt list") for clip in clips[8:]
    ]
    assert CacheReader(cache, "train").ids == [clip.id for clip in clips[:8]]


def test_no_clip_can_be_extracted(clips, cache):
    for clip in clips:
        clip.path.write_bytes(b"")
    message = (
        f"split 'train': none of its 10 clips could be extracted; the first: {clips[0].path}: empty file (0 bytes)"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        extract(clips, cache, replace(PAD, on_error="skip"))
    assert sorted(path.name for path in cache.iterdir()) == ["train.lock", "train.parts"]
    (part,) = part_files(cache, "train")  # says which were skipped, and why
    assert [clip_id for clip_id, _ in CacheFile(part).header.skipped] == [clip.id for clip in clips]
    with pytest.raises(DataError, match=r"empty file \(0 bytes\)"):
        extract(clips, cache)


def test_all_clips_can_be_mended(clips, cache, tmp_path):
    expected = clean_bytes(clips, tmp_path / "clean")
    good = {clip.path: clip.path.read_bytes() for clip in clips}
    for path in good:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of its 10 clips could be extracted"):
        extract(clips, cache, replace(PAD, on_error="skip"))
    for path, content in good.items():
        path.write_bytes(content)
    extract(clips, cache)
    assert (cache / "train.h5").read_bytes() == expected
    assert sorted(path.name for path in cache.iterdir()) == ["train.h5", "train.lock"]


def changed_audio(clip):
    write_wav(clip.path, wave_of(9, 4))
    later = clip.path.stat().st_mtime_ns + 10**9
    os.utime(clip.path, ns=(later, later))
    return clip


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "in parts"])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda clip: replace(clip, mi=3.5), "(MI, TA 1.25, 4.5, now 3.5, 4.5)"),
        (lambda clip: replace(clip, mi=None, ta=None), "(MI, TA 1.25, 4.5, now nan, nan)"),
        (lambda clip: replace(clip, prompt="another one"), "(prompt)"),
        (lambda clip: replace(clip, system="S900"), "(system, prompt id S001, P009, now S900, P009)"),
        (changed_audio, "(audio)"),
    ],
    ids=["label", "no label", "prompt", "system", "audio"],
)
def test_a_dataset_that_changed_is_refused(clips, cache, finished, change, what):
    if finished:
        extract(clips, cache)
    else:
        with pytest.raises(KeyboardInterrupt):
            extract(clips, cache, audio=LoggingEncoder(fails_at=2))
    before = {path: path.read_bytes() for path in cache.rglob("*.h5")}
    now = (clips[0], change(clips[1]), *clips[2:])
    message = (
        f"cache: split 'train' was extracted before the dataset changed: {clips[1].id} {what}; "
        "give another --cache, or --overwrite to extract the split again"
    )
    audio = LoggingEncoder()
    with pytest.raises(CacheError, match=re.escape(message)):
        extract(now, cache, audio=audio)
    assert audio.batches == []
    assert {path: path.read_bytes() for path in cache.rglob("*.h5")} == before
    assert extract(now, cache, replace(PAD, overwrite=True)).encoded == 10
    assert extract(now, cache).encoded == 0


def test_audio_that_was_only_touched_is_not_a_change(clips, cache):
    extract(clips, cache)
    for clip in clips:
        os.utime(clip.path, (2**33, 2**33))
    assert extract(clips, cache).encoded == 0


def test_a_clip_that_is_no_longer_listed_is_refused(clips, cache):
    extract(clips, cache)
    message = (
        rf"cache: split 'train' holds clips that the dataset does not list: {clips[2].id}; give another --cache, or"
    )
    with pytest.raises(CacheError, match=message):
        extract(clips[:2] + clips[3:], cache)


def test_a_clip_that_was_added_is_extracted(clips, cache, tmp_path):
    expected = clean_bytes(clips, tmp_path / "clean")
    extract(clips[:4] + clips[5:], cache)
    assert extract(clips, cache).encoded == 1
    assert (cache / "train.h5").read_bytes() == expected


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "in parts"])
@pytest.mark.parametrize(
    ("options", "dim", "difference"),
    [
        (replace(PAD, dtype="float32"), 4, "dtype is 'float16', expected 'float32'"),
        (replace(PAD, pad_to_s=2.0), 4, "max_seconds is 1.0, expected 2.0"),
        (PAD, 3, "audio_encoder.dim is 4, expected 3"),
    ],
)
def test_another_fingerprint_is_refused(clips, cache, finished, options, dim, difference):
    if finished:
        extract(clips, cache)
    else:
        with pytest.raises(KeyboardInterrupt):
            extract(clips, cache, audio=LoggingEncoder(fails_at=2))
    before = {path: path.read_bytes() for path in cache.rglob("*.h5")}
    audio = LoggingEncoder(dim=dim)
    other_split = tuple(replace(clip, split="dev") for clip in clips)
    for those in (clips, other_split):
        with pytest.raises(
            CacheError, match=f"first difference: {re.escape(difference)}; give another --cache, or the"
        ):
            extract(those, cache, options, audio)
    with pytest.raises(CacheError, match=r"train.*\.h5: fingerprint \w{32}, expected \w{32}; first difference"):
        extract(other_split, cache, replace(options, overwrite=True), audio)
    assert audio.batches == []
    assert {path: path.read_bytes() for path in cache.rglob("*.h5")} == before
    assert extract(clips, cache, replace(options, overwrite=True), audio).encoded == 10


@pytest.mark.parametrize("change", ["sample_rate_hz", "layers", "resampler", "text"])
def test_what_decides_a_feature_is_in_the_fingerprint(change, monkeypatch):
    audio, text = FakeAudioEncoder(), FakeTextEncoder()
    before = PAD.input_spec(audio, text).fingerprint
    for harmless in ({"batch_size": 9}, {"on_error": "skip"}, {"overwrite": True}, {"repair": True}, {"shard": SHARD}):
        assert replace(PAD, **harmless).input_spec(audio, text).fingerprint == before
    if change == "sample_rate_hz":
        audio.sample_rate_hz = 999
    elif change == "layers":
        audio.layers = (0, 1)
    elif change == "text":
        text.max_tokens = 7
    else:
        monkeypatch.setattr(input_spec, "resampler_identity", lambda: {"name": "another", "version": "1"})
    assert PAD.input_spec(audio, text).fingerprint.digest != before.digest


def test_overwrite_that_cannot_work_deletes_nothing(clips, cache):
    extract(clips, cache)
    before = (cache / "train.h5").read_bytes()
    clips[3].path.unlink()
    with pytest.raises(DataError, match="audio files that the list names are missing"):
        extract(clips, cache, replace(PAD, overwrite=True))
    assert (cache / "train.h5").read_bytes() == before


def test_overwrite_mends_a_damaged_file(clips, cache, tmp_path):
    expected = clean_bytes(clips, tmp_path / "clean")
    extract(clips, cache)
    (cache / "train.h5").write_bytes(expected[:-100])
    with pytest.raises(CacheError, match=r"train.h5: cannot be read as a cache file"):
        extract(clips, cache)
    assert extract(clips, cache, replace(PAD, overwrite=True)).encoded == 10
    assert (cache / "train.h5").read_bytes() == expected


def test_a_lost_file_of_several_is_extracted_again(clips, cache, monkeypatch):
    publish = partial(extract_split_module.publish_split, bytes_per_file=300)
    monkeypatch.setattr(extract_split_module, "publish_split", publish)
    files = extract(clips, cache).files
    before = [path.read_bytes() for path in files]
    assert len(files) == 4
    files[1].unlink()
    with pytest.raises(CacheError, match="a file is missing or was renamed; run extract again for this split"):
        CacheReader(cache, "train")
    assert extract(clips, cache).encoded == 3
    assert [path.read_bytes() for path in files] == before


def test_a_second_extraction_of_the_split_is_refused(clips, cache):
    audio = LoggingEncoder()
    message = f"'train' is being written by process {os.getpid()}"
    with locked_split(cache, "train"), pytest.raises(BusyError, match=message):
        extract(clips, cache, audio=audio)
    assert audio.batches == []


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (PAD, 2 * 10 * 10 * 4 * 2),
        (replace(PAD, dtype="float32"), 2 * 10 * 10 * 4 * 4),
        (OWN_LENGTH, 2 * (4 * 3 + 3 * 5 + 3 * 7) * 4 * 2),
    ],
)
def test_a_full_disk_is_foreseen(clips, cache, monkeypatch, options, needed):
    """Parts and finished file stand side by side: clips x frames x width x bytes, twice."""
    audio = LoggingEncoder()
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=needed - 1))
    message = r"cache: 0\.0 MB free on the disk, up to 0\.0 MB needed while extracting; free some, or give a --cache on"
    with pytest.raises(CacheError, match=message):
        extract(clips, cache, options, audio)
    assert audio.batches == []
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=needed))
    extract(clips, cache, options, audio)


def test_disk_space_for_the_rest_of_a_split(clips, cache, monkeypatch):
    """The finished file holds the clips that are done already, too."""
    with pytest.raises(KeyboardInterrupt):
        extract(clips, cache, audio=LoggingEncoder(fails_at=2))
    needed = (10 + 4) * 10 * 4 * 2
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=needed - 1))
    with pytest.raises(CacheError, match="MB free on the disk"):
        extract(clips, cache)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _path: SimpleNamespace(free=needed))
    assert extract(clips, cache).encoded == 4


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("posix_fallocate", errno.ENOSPC, "No space left on device, 0.000 GB needed; free some"),
        ("pwrite", errno.ENOSPC, "No space left on device, 0.000 GB needed; free some"),
        ("pwrite", errno.EIO, "Input/output error; check the disk"),
        ("fsync", errno.EIO, "Input/output error; check the disk"),
    ],
)
@pytest.mark.parametrize("fails_at", [0, 2, 4])
def test_a_disk_that_fills_up_or_fails_keeps_what_is_done(
    clips, cache, tmp_path, monkeypatch, parts_of, fails_at, call, code, message
):
    """In the middle of a part, or of the finished file."""
    expected = clean_bytes(clips, tmp_path / "clean")
    parts_of(2)
    files, originals = [], {name: getattr(os, name) for name in {"posix_fallocate", call}}

    def called(name, *arguments):
        if name == "posix_fallocate":
            files.append(arguments)
        if name == call and len(files) > fails_at:
            raise OSError(code, os.strerror(code))
        return originals[name](*arguments)

    with monkeypatch.context() as patch:
        for name in originals:
            patch.setattr(os, name, partial(called, name))
        message = re.escape(f"{message} and run the command again, it resumes where it stopped")
        with pytest.raises(CacheError, match=rf"\.part: {message}$"):
            extract(clips, cache)
    assert len(part_files(cache, "train")) == fails_at
    assert not list(cache.rglob("*.part"))
    audio = LoggingEncoder()
    extract(clips, cache, audio=audio)
    assert sum(map(len, audio.batches)) == 10 - sum((3, 3, 3, 1)[:fails_at])
    assert (cache / "train.h5").read_bytes() == expected


def test_long_prompts_are_cut_with_a_warning(clips, cache, caplog):
    clips = (replace(clips[0], prompt="one two three four five six seven eight nine"), *clips[1:])
    extract(clips, cache)
    assert [record.getMessage() for record in caplog.records] == [
        "prompts longer than 8 tokens, the rest is cut: 'one two three four five six seven eight nine'"
    ]
    assert len(CacheReader(cache, "train").read_prompt(0).tokens) == 8


def test_prompts_in_other_letters_are_named_in_one_line(clips, cache, caplog):
    clips = (replace(clips[0], prompt="慢速钢琴曲"), replace(clips[1], prompt="медленная баллада"), *clips[2:])
    extract(clips, cache)
    assert [record.getMessage() for record in caplog.records] == [
        "prompts mostly in other letters than Latin, expected English: '慢速钢琴曲', 'медленная баллада'"
    ]


def test_prompts_are_encoded_in_batches_of_one_length(clips):
    text = FakeTextEncoder()
    batches = []
    encode = text.encode
    text.encode = lambda prompts: batches.append(list(prompts)) or encode(prompts)
    encoded = encode_prompts(text, clips, {clip.id for clip in clips}, replace(PAD, batch_size=1))
    assert batches == [["slow organ"], ["sad guitar"], ["a fast flute"], ["happy synth drums"]]
    assert list(encoded) == ["slow organ", "sad guitar", "a fast flute", "happy synth drums"]
    batches.clear()
    encoded = encode_prompts(text, clips, {clips[1].id}, replace(PAD, batch_size=2))
    assert batches == [["a fast flute", "happy synth drums"]]  # the batch of a whole run


def test_splits_can_be_overwritten_together_with_other_options(tmp_path):
    audio, text, cache = FakeAudioEncoder(), FakeTextEncoder(), tmp_path / "cache"
    clips = make_clips(tmp_path, 3)
    splits = {name: [replace(clip, split=name) for clip in clips] for name in ("train", "dev")}
    for clips in splits.values():
        extract_split(clips, cache, audio, text, PAD)
    other = replace(PAD, pad_to_s=2.0, overwrite=True)
    with pytest.raises(CacheError, match="first difference: max_seconds is"):
        extract_split(splits["train"], cache, audio, text, other)
    assert len(CacheReader(cache, "train")) == 3, "nothing was deleted"
    for clips in splits.values():
        extract_split(clips, cache, audio, text, other, together_with=splits)
    assert {CacheReader(cache, name).fingerprint.fields["max_seconds"] for name in splits} == {2.0}


def test_a_prompt_without_finite_features_can_be_skipped(tmp_path):
    class NanForThreeWords(FakeTextEncoder):
        def _features(self, words):
            features = super()._features(words)
            return replace(features, tokens=features.tokens * (float("nan") if len(words) == 3 else 1))

    clips, cache = make_clips(tmp_path), tmp_path / "cache"
    bad = [clip.id for clip in clips if len(clip.prompt.split()) == 3]
    assert 0 < len(bad) < len(clips)
    encoders = FakeAudioEncoder(), NanForThreeWords()
    with pytest.raises(EncoderError, match=r"fake-text gives NaN or Inf as float16 \(.*\); leave its clips out"):
        extract_split(clips, cache, *encoders, PAD)
    summary = extract_split(clips, cache, *encoders, replace(PAD, on_error="skip"))
    assert [clip_id for clip_id, _ in summary.skipped] == bad
    assert "the text encoder gives NaN or Inf as float16 (--dtype float32 holds " in summary.skipped[0][1]
    assert CacheReader(cache, "train").ids == [clip.id for clip in clips if clip.id not in bad]
