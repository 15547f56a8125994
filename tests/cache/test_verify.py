import errno
import os
import shutil
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from audiomos_cache.cache import paths
from audiomos_cache.cache.file_reader import CacheFile
from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.cache.verify import verify_file, verify_split
from audiomos_cache.cli import main
from audiomos_cache.errors import CacheError
from audiomos_cache.extraction import extract_split as extract_split_module
from audiomos_cache.extraction.extract_split import extract_split
from audiomos_cache.extraction.options import ExtractionOptions
from audiomos_cache.testing.fakes import FakeAudioEncoder, FakeTextEncoder
from tests.support.training import make_clips

PAD = ExtractionOptions(pad_to_s=1.5)
REPAIR = ExtractionOptions(pad_to_s=1.5, repair=True)


@pytest.fixture
def made(tmp_path: Path):
    clips = make_clips(tmp_path, "train", 12, 0)
    extract_split(clips, tmp_path / "cache", FakeAudioEncoder(), FakeTextEncoder(), PAD)
    return clips, tmp_path / "cache"


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.chmod(0o644)
    path.write_bytes(content)


def offset_of_clip(path: Path, index: int) -> int:
    """Where a clip's first frame lies in a file, found by its bytes."""
    file = CacheFile(path)
    return path.read_bytes().index(file.read_frames(index).tobytes())


def test_a_whole_file_is_whole(made) -> None:
    _, cache = made
    calls: list[tuple[int, int]] = []
    report = verify_file(cache / "train.h5", lambda done, total: calls.append((done, total)))
    assert (report.whole, report.damaged) == (list(range(12)), [])
    assert calls == [(i, 12) for i in range(1, 13)]


def test_every_damaged_item_is_listed_by_name(made) -> None:
    _, cache = made
    path = cache / "train.h5"
    ids = CacheReader(cache, "train").ids
    for index in (3, 7):
        flip(path, offset_of_clip(path, index))
    prompts = CacheFile(path).prompts
    longest = prompts.index(max(prompts, key=len))
    tokens = CacheFile(path).read_prompt(longest)
    flip(path, path.read_bytes().rindex(tokens.tokens.tobytes()))
    report = verify_file(path)
    assert len(report.damaged) == 3
    assert [f"clip {ids[3]}:" in line or f"clip {ids[7]}:" in line for line in report.damaged] == [False, True, True]
    assert f"prompt {tokens.text!r}" in report.damaged[0]
    rows = CacheFile(path).column("clips/prompt_row")
    assert report.whole == [i for i in range(12) if i not in (3, 7) and rows[i] != longest]


def test_verify_exits_1_and_names_the_clip(made) -> None:
    _, cache = made
    result = CliRunner().invoke(main, ["verify", str(cache)])
    assert (result.exit_code, result.stdout) == (0, "train: 12 clips whole, 0 items damaged\n")
    flip(cache / "train.h5", offset_of_clip(cache / "train.h5", 5))
    result = CliRunner().invoke(main, ["verify", str(cache)])
    assert result.exit_code == 1
    assert "train: 11 clips whole, 1 item damaged" in result.stdout
    assert "clip S001_train005: the stored frames do not match their hash" in result.stdout
    assert "1 damaged items; extract with --repair encodes only what was lost" in result.stderr


def test_what_the_disk_does_not_give_back_is_damaged_and_the_rest_is_whole(made, monkeypatch) -> None:
    clips, cache = made
    path = cache / "train.h5"
    before, bad = path.read_bytes(), offset_of_clip(path, 5)
    preadv = os.preadv

    def failing(descriptor, buffers, position):
        if position == bad and "part" not in os.readlink(f"/proc/self/fd/{descriptor}"):  # noqa: PTH115
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(descriptor, buffers, position)

    audio = FakeAudioEncoder()
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", failing)
        report = verify_file(path)
        assert report.whole == [i for i in range(12) if i != 5]
        [line] = report.damaged
        assert "train.h5, clip S001_train005: cannot be read (Input/output error); the file is damaged" in line
        summary = extract_split(clips, cache, audio, FakeTextEncoder(), REPAIR)
    assert (audio.encoded, summary.damaged) == (1, [line])
    assert path.read_bytes() == before


def test_every_column_is_read(made) -> None:
    """Those that no training needs, too."""
    _, cache = made
    path = cache / "train.h5"
    with h5py.File(path, "r") as file:
        flip(path, file["clips/position"].id.get_offset())
    report = verify_file(path)
    assert (report.file, report.whole) == (None, [])
    [line] = report.damaged
    assert "train.h5: the index does not match its hash (/clips/position)" in line


def test_parts_are_verified_and_repaired_too(tmp_path) -> None:
    clips, cache = make_clips(tmp_path, "train", 12, 0), tmp_path / "cache"

    class Interrupted(FakeAudioEncoder):
        def encode(self, waveforms):
            if self.encoded == 8:
                raise KeyboardInterrupt
            return super().encode(waveforms)

    with pytest.raises(KeyboardInterrupt):
        extract_split(clips, cache, Interrupted(), FakeTextEncoder(), PAD)
    result = CliRunner().invoke(main, ["verify", str(cache)])
    assert (result.exit_code, result.stdout) == (0, "train: 8 clips whole, 0 items damaged\n")
    [part] = paths.part_files(cache, "train")
    flip(part, offset_of_clip(part, 5))
    result = CliRunner().invoke(main, ["verify", str(cache)])
    assert result.exit_code == 1
    assert "train: 7 clips whole, 1 item damaged" in result.stdout
    audio = FakeAudioEncoder()
    summary = extract_split(clips, cache, audio, FakeTextEncoder(), REPAIR)
    assert (audio.encoded, len(summary.damaged)) == (5, 1)
    extract_split(clips, tmp_path / "whole", FakeAudioEncoder(), FakeTextEncoder(), PAD)
    assert (cache / "train.h5").read_bytes() == (tmp_path / "whole" / "train.h5").read_bytes()
    assert sorted(p.name for p in cache.iterdir()) == ["train.h5", "train.lock"]


def test_verify_of_a_split_that_lacks_a_file(tmp_path, monkeypatch) -> None:
    publish = partial(extract_split_module.publish_split, bytes_per_file=600)
    monkeypatch.setattr(extract_split_module, "publish_split", publish)
    clips, cache = make_clips(tmp_path, "train", 12, 0), tmp_path / "cache"
    files = extract_split(clips, cache, FakeAudioEncoder(), FakeTextEncoder(), PAD).files
    assert [report.path for report in verify_split(cache, "train")] == files
    assert len(files) == 3
    files[1].unlink()
    with pytest.raises(CacheError, match=r"split 'train' has files \[0, 2\] of 3; a file is missing or was renamed"):
        verify_split(cache, "train")
    with pytest.raises(CacheError, match="split 'dev' not found; splits: train"):
        verify_split(cache, "dev")


@pytest.mark.parametrize("where", ["clip", "index", "cut"])
def test_repair_encodes_only_what_was_lost_and_ends_with_the_same_bytes(made, where: str) -> None:
    clips, cache = made
    path = cache / "train.h5"
    before = path.read_bytes()
    if where == "clip":
        flip(path, offset_of_clip(path, 5))
    elif where == "index":
        flip(path, before.index(b"S003_train003"))
    else:
        path.write_bytes(before[:-100])
    audio = FakeAudioEncoder()
    summary = extract_split(clips, cache, audio, FakeTextEncoder(), REPAIR)
    assert audio.encoded == {"clip": 1, "index": 12, "cut": 12}[where]
    assert len(summary.damaged) == 1
    assert path.read_bytes() == before
    assert sorted(p.name for p in cache.iterdir()) == ["train.h5", "train.lock"]


def test_a_repair_that_is_interrupted_goes_on(made) -> None:
    clips, cache = made
    path = cache / "train.h5"
    before = path.read_bytes()
    flip(path, offset_of_clip(path, 5))

    class Interrupted(FakeAudioEncoder):
        def encode(self, _waveforms):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_split(clips, cache, Interrupted(), FakeTextEncoder(), REPAIR)
    assert not path.exists()
    assert (cache / "train.h5.damaged").exists()
    audio = FakeAudioEncoder()
    extract_split(clips, cache, audio, FakeTextEncoder(), PAD)
    assert audio.encoded == 1
    assert path.read_bytes() == before
    assert not (cache / "train.h5.damaged").exists()


def test_repair_of_a_whole_split_changes_nothing(made) -> None:
    clips, cache = made
    before = (cache / "train.h5").stat()
    content = (cache / "train.h5").read_bytes()
    summary = extract_split(clips, cache, FakeAudioEncoder(), FakeTextEncoder(), REPAIR)
    assert (summary.damaged, summary.encoded) == ([], 0)
    after = (cache / "train.h5").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (cache / "train.h5").read_bytes() == content


def test_damaged_features_are_never_trained_on(made) -> None:
    _, cache = made
    shutil.copytree(cache, cache.with_name("copy"))
    path = cache.with_name("copy") / "train.h5"
    flip(path, offset_of_clip(path, 5))
    reader = CacheReader(path.parent, "train")
    with pytest.raises(Exception, match="S001_train005: the stored frames do not match their hash"):
        reader.read_frames(5)
    np.testing.assert_array_equal(reader.read_frames(4), CacheReader(cache, "train").read_frames(4))


@pytest.mark.parametrize("moment", ["publish", "set_aside"])
def test_a_repair_killed_while_it_saves_whole_clips_can_be_repeated(made, monkeypatch, moment: str) -> None:
    clips, cache = made
    path = cache / "train.h5"
    before = path.read_bytes()
    flip(path, offset_of_clip(path, 5))

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(paths, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            extract_split(clips, cache, FakeAudioEncoder(), FakeTextEncoder(), REPAIR)
    suffixes = [left.suffix for left in (cache / "train.parts").iterdir()]
    assert suffixes == {"publish": [], "set_aside": [".h5"]}[moment]
    audio = FakeAudioEncoder()
    extract_split(clips, cache, audio, FakeTextEncoder(), REPAIR)
    assert audio.encoded == 1
    assert path.read_bytes() == before


def test_repair_refuses_a_file_of_another_format_version_and_leaves_it(made) -> None:
    """It is whole: a newer version of this package can read it."""
    clips, cache = made
    path = cache / "train.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = np.int64(99)
    before = path.read_bytes()
    with pytest.raises(CacheError, match=r"train\.h5: format version is 99, expected 2; install audiomos-cache"):
        extract_split(clips, cache, FakeAudioEncoder(), FakeTextEncoder(), REPAIR)
    assert path.read_bytes() == before
    assert sorted(p.name for p in cache.iterdir()) == ["train.h5", "train.lock"]


def test_repair_refuses_a_cache_of_another_fingerprint_and_leaves_it(made) -> None:
    clips, cache = made
    path = cache / "train.h5"
    flip(path, offset_of_clip(path, 5))
    before = path.read_bytes()
    with pytest.raises(CacheError, match=r"first difference: audio_encoder\.dim is 4, expected 3; repair with the opt"):
        extract_split(clips, cache, FakeAudioEncoder(dim=3), FakeTextEncoder(), REPAIR)
    assert path.read_bytes() == before
    assert sorted(p.name for p in cache.iterdir()) == ["train.h5", "train.lock"]


def test_what_is_no_cache_is_said(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, what in (("file", "is a file"), ("empty", "no split in it"), ("none", "folder not found")):
        result = CliRunner().invoke(main, ["verify", str(tmp_path / name)])
        assert result.exit_code == 1
        assert result.stderr == f"Error: {tmp_path / name}: {what}, expected a folder that extract wrote\n"


def test_a_split_that_is_not_there_is_no_damage(made) -> None:
    _, cache = made
    result = CliRunner().invoke(main, ["verify", str(cache), "--split", "nope"])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {cache}: split 'nope' not found; splits: train; extract it first\n"
