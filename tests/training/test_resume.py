"""A training that was interrupted goes on, and ends with the bytes of one that was not."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from audiomos_cache.cache.reader import CacheReader
from audiomos_cache.errors import AudiomosError, DataError, OutputExistsError
from audiomos_cache.runs import CONFIG, read_run_config
from audiomos_cache.training import jobs as jobs_module
from audiomos_cache.training import resume
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet, Lists
from audiomos_cache.training.jobs import HeadJob
from audiomos_cache.training.train_heads import DivergedRunsError, train_heads
from audiomos_cache.training.trainer import Trainer
from tests.support.training import RATERS, Killed, files_in, interrupt_after, job, names_in, write_ratings

EPOCHS = 5
# All chance there is: dropout, the clips' order, what is mixed; and a rate that differs from step to step.
SETTINGS = (
    *(f"training.max_epochs={EPOCHS}", "training.lr=1e-3", "training.schedule=cosine", "training.warmup_epochs=1"),
    *("training.feature_mixup=0.4", "training.clip_norm=1", "training.decay=matrices"),
)
JOB = job("transformer-dist", 1, *SETTINGS)
QUICK = job("pooling-dist", 1, *SETTINGS, "training.max_epochs=2")


@pytest.fixture(autouse=True)
def _each_epoch_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "SHARE_OF_TIME", float("inf"))


@pytest.fixture
def trained_epochs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The epochs that are trained, in order."""
    epochs: list[int] = []
    train_epoch = Trainer.train_epoch

    def note(self: Trainer, epoch: int) -> tuple[float, float]:
        epochs.append(epoch)
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", note)
    yield epochs


def state_of(out: Path, which: HeadJob = JOB) -> Path:
    return out / f".{which.name}.training"


def saved_epoch(out: Path, which: HeadJob = JOB) -> int:
    return len(json.loads((state_of(out, which) / "state.json").read_text().splitlines()[1])["history"])


@pytest.fixture(scope="module")
def whole(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The runs of trainings that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    return {result.folder.name: files_in(result.folder) for result in train_heads([JOB, QUICK], cache, out)}


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
def test_interrupted_between_epochs_it_ends_with_the_same_bytes(
    cache: Path, tmp_path: Path, whole: dict[str, dict[str, bytes]], trained_epochs: list[int], epoch: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_heads([JOB], cache, tmp_path, on_epoch=interrupt_after(epoch))
    assert names_in(tmp_path) == [state_of(tmp_path).name]
    torch.manual_seed(99)  # whatever was drawn meanwhile
    [result] = train_heads([JOB], cache, tmp_path)
    assert trained_epochs == list(range(1, EPOCHS + 1)), "none twice"
    assert files_in(result.folder) == whole[JOB.name]
    assert names_in(tmp_path) == [JOB.name]
    assert result.epochs == EPOCHS and set(result.dev) == {"loss", "srcc", "combined"}


def test_interrupted_within_epochs_it_ends_with_the_same_bytes(
    cache: Path, tmp_path: Path, whole: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times, in the middle of training and of validating; each epoch reads 2 batches to train and 1 to dev."""
    gather, calls = FeatureBatches.gather, [0]

    def interrupted_gather(self: FeatureBatches, indices: list[int], **options: Any) -> Any:
        calls[0] += 1
        if calls[0] in (2, 7, 12):
            raise KeyboardInterrupt
        return gather(self, indices, **options)

    monkeypatch.setattr(FeatureBatches, "gather", interrupted_gather)
    for saved in (None, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            train_heads([JOB], cache, tmp_path)
        assert (saved_epoch(tmp_path) if state_of(tmp_path).exists() else None) == saved
    [result] = train_heads([JOB], cache, tmp_path)
    assert files_in(result.folder) == whole[JOB.name]


def test_an_interrupt_saves_what_was_not_saved_and_a_kill_does_not(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, dict[str, bytes]]
) -> None:
    """Where saving takes long, not every epoch is saved."""
    monkeypatch.setattr(resume, "SHARE_OF_TIME", 1e-9)
    for error, saved in ((Killed, 1), (KeyboardInterrupt, 4)):
        with pytest.raises(error):
            train_heads([JOB], cache, tmp_path, on_epoch=interrupt_after(4, error))
        assert saved_epoch(tmp_path) == saved
    assert files_in(train_heads([JOB], cache, tmp_path)[0].folder) == whole[JOB.name]


def test_saving_takes_no_more_than_its_share_of_the_time(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock by which an epoch takes 1 s and saving 0.09 s, of which 5 % allow one in 1.8 s."""
    now, saved = [0.0], []
    save_state = resume.save_state

    def slow_save(*arguments: Any) -> dict[str, str]:
        now[0] += 0.09
        saved.append(arguments[2].epoch)
        return save_state(*arguments)

    def pass_time(*_arguments: object) -> None:
        now[0] += 1

    monkeypatch.setattr(resume, "SHARE_OF_TIME", 0.05)
    monkeypatch.setattr(resume, "save_state", slow_save)
    monkeypatch.setattr(resume, "time", SimpleNamespace(monotonic=lambda: now[0]))
    train_heads([job("pooling-dist", 1, "training.max_epochs=8")], cache, tmp_path, on_epoch=pass_time)
    assert saved == [1, 3, 5, 7, 8], "the last one always"


WRITING = ("fsync", "replace", "rename", "unlink", "rmdir")


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[int]]:
    """Let the k-th change of a file's name, or its way to the disk, end the training; counts those before."""

    def prepare(k: int | None) -> list[int]:
        calls = [0]

        def patched(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*arguments: Any, **options: Any) -> Any:
                calls[0] += 1
                if calls[0] == k:
                    raise Killed
                return call(*arguments, **options)

            return counted

        for name, call in originals.items():
            monkeypatch.setattr(os, name, patched(call))
        return calls

    originals = {name: getattr(os, name) for name in WRITING}
    return prepare


@pytest.mark.slow
def test_killed_at_any_write_it_ends_with_the_same_bytes(
    cache: Path, tmp_path: Path, whole: dict[str, dict[str, bytes]], kill_at: Callable[[int | None], list[int]]
) -> None:
    calls = kill_at(None)
    train_heads([QUICK], cache, tmp_path / "counted")
    total = calls[0]
    assert total > 60
    # All while states are saved and where the run takes its place; of the run's files, written alike, every fifth.
    for k in (*range(1, 31), *range(31, total - 12, 5), *range(total - 12, total + 1)):
        out = tmp_path / str(k)
        kill_at(k)
        with pytest.raises(Killed):
            train_heads([QUICK], cache, out)
        kill_at(None)
        if (out / QUICK.name).exists():  # finished, but for what it leaves behind
            assert files_in(out / QUICK.name) == whole[QUICK.name]
            train_heads([QUICK], cache, out, overwrite=True)
        else:
            train_heads([QUICK], cache, out)
        assert files_in(out / QUICK.name) == whole[QUICK.name]
        assert names_in(out) == [QUICK.name]
        shutil.rmtree(out)


@pytest.mark.slow
def test_a_run_that_is_replaced_is_never_lost(
    cache: Path, tmp_path: Path, whole: dict[str, dict[str, bytes]], kill_at: Callable[[int | None], list[int]]
) -> None:
    """Killed at any write, the old run or the new one is at its place, or comes back to it."""
    old = replace(QUICK, config=job("pooling-dist", 1, "training.max_epochs=1").config)
    train_heads([old], cache, tmp_path / "old")
    before = files_in(tmp_path / "old" / old.name)
    shutil.copytree(tmp_path / "old", tmp_path / "counted")
    calls = kill_at(None)
    train_heads([QUICK], cache, tmp_path / "counted", overwrite=True)
    total = calls[0]
    for k in range(total - 15, total + 1):
        out = tmp_path / str(k)
        shutil.copytree(tmp_path / "old", out)
        kill_at(k)
        with pytest.raises(Killed):
            train_heads([QUICK], cache, out, overwrite=True)
        kill_at(None)
        assert files_in(out / QUICK.name) in (before, whole[QUICK.name])
        train_heads([QUICK], cache, out, overwrite=True)
        assert files_in(out / QUICK.name) == whole[QUICK.name]
        assert names_in(out) == [QUICK.name]
        shutil.rmtree(out)


def test_a_run_that_a_kill_left_beside_its_place_comes_back(cache: Path, tmp_path: Path) -> None:
    """As between the two renames, where no Python is left to undo the first."""
    [result] = train_heads([QUICK], cache, tmp_path)
    before = files_in(result.folder)
    state_of(tmp_path, QUICK).mkdir()
    result.folder.rename(state_of(tmp_path, QUICK) / "replaced")
    [found] = train_heads([QUICK], cache, tmp_path, on_epoch=interrupt_after(1, Killed))
    assert found.seconds is None, "nothing is trained"
    assert files_in(result.folder) == before
    assert names_in(tmp_path) == [QUICK.name]


def test_only_what_is_new_is_written(cache: Path, tmp_path: Path) -> None:
    """Weights of an epoch are written once, however many bests it is; those that nothing needs any more are gone."""
    folder, states = state_of(tmp_path, QUICK), []

    def note(_job: HeadJob, _line: object, _last: bool) -> None:
        states.append({path.name: path.stat() for path in folder.glob("*.safetensors")})

    which = replace(QUICK, config=job("pooling-dist", 1, "training.max_epochs=12").config)
    [result] = train_heads([which], cache, tmp_path, on_epoch=note)
    history = [json.loads(line) for line in (result.folder / "history.jsonl").read_text().splitlines()]
    bests: dict[str, int] = {}
    kept = 0
    for epoch, (line, files) in enumerate(zip(history, states, strict=True), start=1):
        bests |= dict.fromkeys(line["best"], epoch)
        weights = {f"weights-{number}.safetensors" for number in {epoch, *bests.values()}}
        assert files.keys() == weights | {f"optimizer-{epoch}.safetensors"}
        for name in weights & (states[epoch - 2].keys() if epoch > 1 else set()):
            assert files[name].st_ino == states[epoch - 2][name].st_ino
            assert files[name].st_mtime_ns == states[epoch - 2][name].st_mtime_ns
            kept += 1
    assert kept > 5


def begun(cache: Path, out: Path, which: HeadJob = QUICK, lists: Lists | None = None) -> Path:
    """Begin a training in a fresh place, and interrupt it; gives its state's folder."""
    with pytest.raises(KeyboardInterrupt):
        train_heads([which], cache, out, lists=lists or Lists(), on_epoch=interrupt_after(1))
    return state_of(out, which)


REPEAT = "; repeat that to finish it, give another --out, or --overwrite to start from the beginning"


def test_another_training_does_not_go_on_with_it(
    cache: Path, tmp_path: Path, whole: dict[str, dict[str, bytes]], trained_epochs: list[int]
) -> None:
    other = replace(QUICK, config=job("pooling-dist", 1, *SETTINGS, "dropout=0.1", "training.max_epochs=4").config)
    state = begun(cache, tmp_path, other)
    before = files_in(state)
    trained_epochs.clear()
    with pytest.raises(OutputExistsError) as caught:
        train_heads([job("pooling-dist", 2), QUICK], cache, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / QUICK.name}: an interrupted training of this name differs: "
        "head.dropout is 0.1, requested 0.3, "
        f"head.training.max_epochs is 4, requested 2{REPEAT}"
    )
    assert trained_epochs == [], "nothing is trained before"
    assert files_in(state) == before
    train_heads([QUICK], cache, tmp_path, overwrite=True)
    assert files_in(tmp_path / QUICK.name) == whole[QUICK.name]
    assert names_in(tmp_path) == [QUICK.name]


def test_overwrite_goes_on_with_the_same_training(cache: Path, tmp_path: Path, trained_epochs: list[int]) -> None:
    begun(cache, tmp_path)
    train_heads([QUICK], cache, tmp_path, overwrite=True)
    assert trained_epochs == [1, 2]


def write_list(path: Path, reader: CacheReader, clips: range, mi: float = 2.0) -> Path:
    path.write_text("".join(f"{reader.ids[i]}.wav,{mi if i == clips[0] else 2.0 + i / 100},3\n" for i in clips))
    return path


def test_whatever_decides_a_number_is_compared(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = CacheReader(cache, "train")
    lists = Lists(train=write_list(tmp_path / "a.txt", reader, range(20)))
    begun(cache, tmp_path / "runs", lists=lists)

    def refusal(which: HeadJob = QUICK, lists: Lists = lists) -> str:
        with pytest.raises(OutputExistsError) as caught:
            train_heads([which], cache, tmp_path / "runs", lists=lists)
        message = str(caught.value)
        assert message.endswith(REPEAT)
        return message.partition("of this name differs: ")[2].removesuffix(REPEAT)

    assert refusal(replace(QUICK, seed=3)) == "seed is 1, requested 3"
    fewer = Lists(train=write_list(tmp_path / "b.txt", reader, range(19)))
    assert refusal(lists=fewer).startswith("data.train.clips is 20, requested 19, data.train.labels_xxh3_128 is ")
    changed = Lists(train=write_list(tmp_path / "b.txt", reader, range(20), mi=4.0))
    assert refusal(lists=changed).startswith("data.train.labels_xxh3_128 is ")
    versions = jobs_module.versions()
    with monkeypatch.context() as patch:
        patch.setattr(jobs_module, "versions", lambda: {**versions, "torch": "0.0.1"})
        assert refusal() == f"versions.torch is '{versions['torch']}', requested '0.0.1'"
    with monkeypatch.context() as patch:
        fields = reader.fingerprint.fields
        patch.setattr(type(reader.fingerprint), "fields", property(lambda _self: {**fields, "max_seconds": 9.0}))
        assert refusal() == "fingerprint_fields.max_seconds is 1.5, requested 9.0"
    assert refusal_of_ratings(cache, tmp_path).startswith("data.dev.ratings_xxh3_128 is ")
    # The same list under another name is the same data.
    same = Lists(train=shutil.copy(tmp_path / "a.txt", tmp_path / "copy.txt"))
    [result] = train_heads([QUICK], cache, tmp_path / "runs", lists=same)
    assert f"from: {same.train}" in (result.folder / "config.yaml").read_text()


def refusal_of_ratings(cache: Path, folder: Path) -> str:
    """Change what a listener said of a clip of dev, and nothing else."""
    which = job("pooling-dist", 1, *SETTINGS, *RATERS)
    raters = [write_ratings(folder / f"{split}.txt", CacheReader(cache, split).ids, 0) for split in ("train", "dev")]
    begun(cache, folder / "rated", which, Lists(raters=raters))
    lines = raters[1].read_text().splitlines()
    name, rater, mi, ta = lines[0].split(",")
    raters[1].write_text("\n".join([f"{name},{rater},{int(mi) % 5 + 1},{ta}", *lines[1:]]))
    with pytest.raises(OutputExistsError) as caught:
        train_heads([which], cache, folder / "rated", lists=Lists(raters=raters))
    return str(caught.value).partition("of this name differs: ")[2]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("state.json", damage) for damage in ("flipped", "cut", "foreign")),
        *(("weights-1.safetensors", damage) for damage in ("flipped", "cut", "missing", "foreign")),
        *(("optimizer-1.safetensors", damage) for damage in ("flipped", "cut", "missing", "foreign")),
    ],
)
def test_a_damaged_state_is_refused(
    cache: Path, tmp_path: Path, whole: dict[str, dict[str, bytes]], name: str, damage: str
) -> None:
    path = begun(cache, tmp_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    match damage:
        case "flipped":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "missing":
            path.unlink()
        case "foreign":  # such as that of another epoch
            other = begun(cache, tmp_path / "other", replace(QUICK, seed=2))
            path.write_bytes((other / "weights-1.safetensors").read_bytes())
    before = files_in(path.parent)
    with pytest.raises(DataError) as caught:
        train_heads([QUICK], cache, tmp_path)
    assert str(caught.value) == (
        f"{path}: damaged or missing, so the interrupted training cannot be continued; --overwrite starts it "
        "from the beginning"
    )
    assert files_in(path.parent).keys() >= before.keys(), "nothing is removed"
    train_heads([QUICK], cache, tmp_path, overwrite=True)
    assert files_in(tmp_path / QUICK.name) == whole[QUICK.name]


def test_two_processes_do_not_train_the_same_run(cache: Path, tmp_path: Path) -> None:
    """The second is refused, and the first does not notice."""
    messages = []

    def train_beside(_job: HeadJob, line: dict[str, Any], _last: bool) -> None:
        if line["epoch"] == 1:
            for overwrite in (False, True):
                with pytest.raises(OutputExistsError) as caught:
                    train_heads([QUICK], cache, tmp_path, overwrite=overwrite)
                messages.append(str(caught.value))

    [result] = train_heads([QUICK], cache, tmp_path, on_epoch=train_beside)
    first = f"{result.folder}: is being trained by process {os.getpid()} on "
    assert len(messages) == 2
    assert all(each.startswith(first) and each.endswith("; wait for it to finish, or stop it") for each in messages)
    assert names_in(tmp_path) == [QUICK.name]


@pytest.fixture
def diverges(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Any]:
    """Lets the loss be NaN in the k-th batch from now."""

    def diverge_in(batch: int) -> Any:
        gather, calls = FeatureBatches.gather, [0]

        def broken_gather(self: FeatureBatches, indices: list[int], **options: Any) -> Any:
            features = gather(self, indices, **options)
            calls[0] += 1
            if calls[0] == batch:
                features.frames[:] = float("nan")
            return features

        monkeypatch.setattr(FeatureBatches, "gather", broken_gather)

    return diverge_in


def test_what_was_trained_before_a_training_diverged_is_kept(
    cache: Path, tmp_path: Path, diverges: Callable[[int], Any]
) -> None:
    diverges(4)  # the second epoch's first
    with pytest.raises(DataError, match="a smaller training") as caught:
        train_heads([JOB], cache, tmp_path)
    assert str(caught.value).startswith(f"{JOB.name}: the loss is nan on the batch of ")
    kept = state_of(tmp_path)
    assert str(caught.value).endswith(f"; the epochs before are kept in {kept}, --overwrite starts from the first")
    assert saved_epoch(tmp_path) == 1 and (kept / "weights-1.safetensors").is_file()
    smaller = job("transformer-dist", 1)
    with pytest.raises(OutputExistsError, match=r"interrupted training of this name differs: .*training\.lr is 0\.001"):
        train_heads([smaller], cache, tmp_path)
    train_heads([smaller], cache, tmp_path, overwrite=True)
    assert names_in(tmp_path) == [JOB.name]


def test_nothing_is_kept_of_a_training_that_diverged_in_its_first_epoch(
    cache: Path, tmp_path: Path, diverges: Callable[[int], Any]
) -> None:
    diverges(1)
    with pytest.raises(DataError, match=r"help$"):
        train_heads([JOB], cache, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_training_that_diverges_does_not_keep_the_others_from_being_trained(
    cache: Path, tmp_path: Path, diverges: Callable[[int], Any]
) -> None:
    jobs = [job("pooling-dist", seed) for seed in (1, 2, 3)]
    per_run = 3 * 3 + 3 * 4  # 2 batches to train and 1 to dev in each epoch; 2 + 1 + 1 predicted by each of three bests
    diverges(per_run + 4)
    with pytest.raises(DivergedRunsError, match=r"^pooling-dist-seed2: the loss is nan") as caught:
        train_heads(jobs, cache, tmp_path)
    assert [result.folder.name for result in caught.value.results] == ["pooling-dist-seed1", "pooling-dist-seed3"]
    assert names_in(tmp_path) == [".pooling-dist-seed2.training", "pooling-dist-seed1", "pooling-dist-seed3"]


def test_a_training_goes_on_with_as_many_threads_as_it_began(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number decides the last digits of a sum."""
    used: list[int] = []
    train_epoch = Trainer.train_epoch

    def note(self: Trainer, epoch: int) -> tuple[float, float]:
        used.append(torch.get_num_threads())
        return train_epoch(self, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", note)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyboardInterrupt):
            train_heads([JOB], cache, tmp_path, on_epoch=interrupt_after(2))
        torch.set_num_threads(1)
        [result] = train_heads([JOB], cache, tmp_path)
        assert torch.get_num_threads() == 1, "it is given back"
    finally:
        torch.set_num_threads(before)
    assert used == [3] * EPOCHS
    assert read_run_config(result.folder)["threads"] == 3


def test_an_error_that_can_be_mended_keeps_what_was_trained(
    cache: Path, tmp_path: Path, whole: dict[str, dict[str, bytes]]
) -> None:
    """A full disk, a damaged clip."""

    class MendableError(AudiomosError):
        pass

    for error in (OSError(28, "No space left on device"), MendableError("a clip is damaged")):

        def fail(_job: HeadJob, line: dict[str, Any], _last: bool, error: Exception = error) -> None:
            if line["epoch"] == 2:
                raise error

        with pytest.raises(type(error)):
            train_heads([JOB], cache, tmp_path / type(error).__name__, on_epoch=fail)
        assert saved_epoch(tmp_path / type(error).__name__) == 2
        [result] = train_heads([JOB], cache, tmp_path / type(error).__name__)
        assert files_in(result.folder) == whole[JOB.name]


def test_a_run_stopped_by_its_patience_stops_again_where_it_did(
    cache: Path, tmp_path: Path, trained_epochs: list[int]
) -> None:
    which = job("pooling-dist", 1, "training.max_epochs=100", "training.patience=3", "training.lr=1e-30")
    whole_run = train_heads([which], cache, tmp_path / "whole")[0].folder
    assert trained_epochs == [1, 2, 3, 4]
    for epoch in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            train_heads([which], cache, tmp_path / str(epoch), on_epoch=interrupt_after(epoch))
        trained_epochs.clear()
        [result] = train_heads([which], cache, tmp_path / str(epoch))
        assert trained_epochs == [3, 4][epoch - 2 :]
        assert files_in(result.folder) == files_in(whole_run)


def test_the_order_of_a_list_decides_nothing(cache: Path, tmp_path: Path) -> None:
    """Neither the bytes of a run, nor how an interrupted one goes on when its list is written in another order."""
    lists = {}
    for name, key in (("sorted", lambda line: line), ("shuffled", lambda line: line[::-1])):
        for split in ("train", "dev"):
            clips = ClipSet.of_split(cache, split)
            rows = zip(clips.ids, clips.mi.tolist(), clips.ta.tolist(), strict=True)
            lines = [f"{clip_id}.wav,{mi!r},{ta!r}\n" for clip_id, mi, ta in rows]
            (tmp_path / f"{name}-{split}.txt").write_text("".join(sorted(lines, key=key)))
        lists[name] = Lists(tmp_path / f"{name}-train.txt", tmp_path / f"{name}-dev.txt")
    assert (tmp_path / "sorted-train.txt").read_text() != (tmp_path / "shuffled-train.txt").read_text()

    runs = [train_heads([JOB], cache, tmp_path / name, lists=lists[name])[0].folder for name in lists]
    with pytest.raises(KeyboardInterrupt):
        train_heads([JOB], cache, tmp_path / "both", lists=lists["sorted"], on_epoch=interrupt_after(2))
    runs.append(train_heads([JOB], cache, tmp_path / "both", lists=lists["shuffled"])[0].folder)
    first, *others = ({name: content for name, content in files_in(run).items() if name != CONFIG} for run in runs)
    assert len(first) > 5 and all(other == first for other in others)
