"""The recorded hashes of a run: one flipped bit of a checkpoint or of predictions is found by their readers."""

import json
import random
import shutil
import threading
from pathlib import Path

import pytest

from audiomos_cache.artifacts import hash_bytes
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.describe import info
from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.hashes import HASHES, read_hashes, require_hash, write_recorded
from audiomos_cache.runs import BESTS, Run
from audiomos_cache.training.predict import predict
from audiomos_cache.training.train_heads import train_heads
from tests.support.training import cache, job

__all__ = ["cache"]

QUICK = job("pooling-dist", 1, "training.max_epochs=1")


@pytest.fixture(scope="module")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run; not to be changed."""
    [result] = train_heads([QUICK], cache, tmp_path_factory.mktemp("runs"))
    return result.folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / trained.name)


def test_every_checkpoint_and_predictions_file_has_its_hash(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.suffix == ".safetensors" or path.parent.name == "predictions"]
    assert len(files) == 3 + 9
    assert read_hashes(run) == {str(path.relative_to(run)): hash_bytes(path.read_bytes()) for path in files}


def flipped(content: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


def places(content: bytes) -> list[int]:
    """The header's length, its text, the first and last byte of each tensor, and some by chance."""
    header = 8 + int.from_bytes(content[:8], "little")
    tensors = [each["data_offsets"] for name, each in json.loads(content[8:header]).items() if name != "__metadata__"]
    bounds = [header + place for start, end in tensors for place in (start, end - 1)]
    assert len(bounds) >= 10 and max(bounds) == len(content) - 1
    random_ones = random.Random(3).sample(range(len(content)), 200)
    return [*range(8), *range(8, header, 7), *bounds, *random_ones]


def test_every_flipped_bit_of_a_checkpoint_is_found(run: Path) -> None:
    path, opened = run / "best-loss.safetensors", Run(run)
    content = path.read_bytes()
    chance = random.Random(4)
    for position in places(content):
        path.write_bytes(flipped(content, position, chance.randrange(8)))
        with pytest.raises(DataError) as caught:
            opened.load_head("loss")
        message = str(caught.value)
        assert message.startswith(f"{path}: hash ")
        assert message.endswith("is damaged; copy the run again, or train it again with --overwrite")
    for length in (0, 1, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"best-loss\.safetensors: hash \w+, expected \w+, so it was changed or is"):
            opened.load_head("loss")
    path.write_bytes(content)
    opened.load_head("loss")


def test_whatever_reads_a_damaged_checkpoint_refuses_it(cache: Path, run: Path, tmp_path: Path) -> None:
    path = run / "best-srcc.safetensors"
    path.write_bytes(flipped(path.read_bytes(), -1, 0))
    before = sorted(tmp_path.rglob("*"))
    for read in (
        lambda: predict(run, cache, "eval", "srcc", tmp_path / "p.jsonl", device="cpu"),
        lambda: make_bundle(run, tmp_path / "model", best="srcc", n_boot=0),
        lambda: train_heads([QUICK], cache, tmp_path),
        lambda: info(run),
    ):
        with pytest.raises(DataError, match=r"best-srcc\.safetensors: hash \w+, expected \w+, so it was changed or is"):
            read()
    assert sorted(tmp_path.rglob("*")) == before
    predict(run, cache, "eval", "loss", tmp_path / "p.jsonl", device="cpu")  # another one is whole


def test_a_damaged_run_is_trained_again_on_request(cache: Path, trained: Path, run: Path, tmp_path: Path) -> None:
    path = run / "best-loss.safetensors"
    path.write_bytes(flipped(path.read_bytes(), 1000, 5))
    with pytest.raises(DataError, match=r"^.*seed1: cannot be read as a run \(.*\); --overwrite trains it again$"):
        train_heads([QUICK], cache, tmp_path)
    [result] = train_heads([QUICK], cache, tmp_path, overwrite=True)
    assert result.seconds is not None
    assert path.read_bytes() == (trained / path.name).read_bytes()


def test_damaged_predictions_of_a_run_are_refused(cache: Path, run: Path, tmp_path: Path) -> None:
    path = run / "predictions" / "eval.loss.jsonl"
    content = path.read_bytes()
    digit = content.index(b"0", content.index(b"mi"))
    path.write_bytes(flipped(content, digit, 0))
    advice = f"audiomos-cache predict {run} --split eval --best loss --overwrite writes it again"
    for read in (
        lambda: read_predictions(path),
        lambda: fuse([run], out=tmp_path / "fused", method="mean", apply_split="eval", n_boot=0),
    ):
        with pytest.raises(DataError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: hash ")
        assert str(caught.value).endswith(f"so it was changed or is damaged; {advice}")
    predict(run, cache, "eval", "loss", overwrite=True, device="cpu")
    assert path.read_bytes() == content
    assert len(read_predictions(path).ids) == 8


def test_predictions_of_ones_own_have_no_hash(run: Path, tmp_path: Path) -> None:
    """Neither in another folder, nor under a name that no command has written."""
    content = (run / "predictions" / "eval.loss.jsonl").read_bytes()
    for path in (tmp_path / "mine.jsonl", run / "predictions" / "mine.jsonl"):
        path.write_bytes(content.replace(b"S000", b"S999", 1))
        assert read_predictions(path).ids[-1].startswith("S999")


def test_a_checkpoint_without_a_hash_is_refused(run: Path) -> None:
    (run / HASHES).unlink()
    for best in BESTS:
        with pytest.raises(DataError, match=rf"hashes\.json is missing, so best-{best}\.safetensors may be damaged"):
            Run(run).load_head(best)
    (run / HASHES).write_text("{}")
    with pytest.raises(DataError, match=r"best-loss\.safetensors: has no hash in .*hashes\.json, so it may be "):
        Run(run).load_head("loss")


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b'{"a": "1", "a": "2"}', b"\xff"])
def test_a_damaged_record_is_refused(run: Path, content: bytes) -> None:
    (run / HASHES).write_bytes(content)
    with pytest.raises(DataError, match=r"hashes\.json: not the hashes of a run \(.*\); copy the run again, or"):
        Run(run).load_head("loss")


def test_files_that_are_written_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    names = [f"{number}.jsonl" for number in range(40)]
    threads = [threading.Thread(target=write_recorded, args=(tmp_path, name, name.encode())) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_hashes(tmp_path) == {name: hash_bytes(name.encode()) for name in names}
    for name in names:
        require_hash(tmp_path, name, (tmp_path / name).read_bytes(), "")
