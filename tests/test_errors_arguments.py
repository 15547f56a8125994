"""Arguments of the public functions: what is none of the choices is refused before any work, as by a command."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from audiomos_cache import (
    Scorer,
    evaluate,
    extract,
    fuse,
    import_upstream,
    make_bundle,
    merge,
    predict,
    score_files,
    split,
    train_head,
)
from audiomos_cache.errors import ArgumentError, BundleError, CacheError, OutputExistsError, one_of, paths_of


@pytest.mark.parametrize("value", [None, True, 1, "", "C", ["a"]])
def test_one_of_several(value):
    with pytest.raises(ArgumentError) as caught:
        one_of("what", value, ("a", "b"))
    assert str(caught.value) == f"what is {value!r}, expected one of a, b"
    one_of("what", "a", ("a", "b"))


def test_one_of_one():
    with pytest.raises(ArgumentError, match=r"^by is 'clip', expected system$"):
        one_of("by", "clip", ("system",))


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("a/b", ["a/b"]),
        (Path("a/b"), ["a/b"]),
        (["b", Path("a")], ["b", "a"]),
        ((path for path in ("b", "a")), ["b", "a"]),
        ([], []),
    ],
)
def test_one_path_or_several(given, paths):
    assert paths_of("runs", given) == [Path(path) for path in paths]


@pytest.mark.parametrize("given", [b"a", None, 7, {"a", "b"}, {"a": "b"}, ["a", 7], ["a", b"b"]])
def test_what_are_no_paths(given):
    with pytest.raises(ArgumentError) as caught:
        paths_of("runs", given)
    assert str(caught.value) == f"runs is {given!r}, expected a path, or a list of paths"


COMPILE, BEST = "expected one of auto, on, off", "expected one of loss, srcc, combined"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "raise"}, "on_error is 'raise', expected one of stop, skip"),
        ({"on_error": None}, "on_error is None, expected one of stop, skip"),
        ({"precision": "fp8"}, "precision is 'fp8', expected one of fp16, bf16, fp32"),
        ({"compile": "maybe"}, f"compile is 'maybe', {COMPILE}"),
        ({"dtype": "int8"}, "dtype is 'int8', expected one of float16, float32"),
        ({"device": "gpu"}, "device 'gpu' is not one of auto, cpu, cuda"),
    ],
)
def test_extract(tmp_path, options, message):
    (tmp_path / "data.csv").write_text("path,prompt\nx.wav,a\n")
    (tmp_path / "x.wav").write_text("")
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        extract(tmp_path / "data.csv", tmp_path / "cache", **options)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp64"}, "precision is 'fp64', expected one of fp32, bf16"),
        ({"preload": "disk"}, "preload is 'disk', expected one of auto, ram, cuda, none"),
        ({"compile": True}, f"compile is True, {COMPILE}"),
        ({"seed": "5"}, "seed is '5', expected a whole number, or several"),
        ({"seed": [1, 2.5]}, r"seed is \[1, 2.5\], expected a whole number, or several"),
        ({"seed": True}, "seed is True, expected a whole number, or several"),
        ({"seed": [1, -1]}, "seed -1: expected 0 to 9223372036854775807"),
        ({"set": 3}, "set is 3, expected 'key=value', several of these, or a mapping of keys to values"),
    ],
)
def test_train_head(tmp_path, options, message):
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        train_head(tmp_path / "cache", out=tmp_path / "runs", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: predict("run", best="mse"), f"best is 'mse', {BEST}"),
        (lambda: make_bundle("run", "out", best="mse"), f"best is 'mse', {BEST}"),
        (lambda: fuse("run", out="out", best="mse"), f"best is 'mse', {BEST}"),
        (lambda: fuse("run", out="out", cv_group=None), "cv_group is None, expected one of prompt, system, none"),
        (lambda: import_upstream("a.pth", "transformer-dist", "out", best=""), f"best is '', {BEST}"),
        (lambda: split("list.txt", hold_out="clip"), "hold_out is 'clip', expected one of clips, systems, prompts"),
        (lambda: evaluate({"a.jsonl", "b.jsonl"}, "labels.txt"), "files is {.*}, expected a path, or a list of paths"),
        (lambda: fuse(7, out="out"), "sources is 7, expected a path, or a list of paths"),
        (lambda: make_bundle(b"run", "out"), "runs is b'run', expected a path, or a list of paths"),
        (lambda: merge(None, "out"), "caches is None, expected a path, or a list of paths"),
        (
            lambda: score_files({"a.wav": 1}, bundle="b", out="s.csv"),
            "audio is {.*}, expected a path, or a list of paths",
        ),
        (lambda: Scorer("model", precision="fp8"), "precision is 'fp8', expected one of fp16, bf16, fp32"),
        (lambda: Scorer("model", device="gpu"), "device 'gpu' is not one of auto, cpu, cuda"),
        (lambda: Scorer("model", device=None), "device None is not one of auto, cpu, cuda"),
    ],
)
def test_others(tmp_path, monkeypatch, call, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        call()
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for device in ("cuda:2", "cuda:x", "cuda:"):
        with pytest.raises(ArgumentError, match=f"^device is '{device}', expected cuda:0 to cuda:1$"):
            Scorer("model", device=device)


def test_score_files_with_a_loaded_scorer_takes_no_options_of_one(tmp_path):
    message = "^device, batch_size: the scorer is loaded already; leave these out, or give them to Scorer$"
    scorer = SimpleNamespace(score_items=None)
    with pytest.raises(ArgumentError, match=message):
        score_files(["x.wav"], bundle=scorer, out=tmp_path / "s.csv", device="cpu", precision=None, batch_size=2)


def test_a_single_path_is_not_taken_letter_by_letter(tmp_path):
    with pytest.raises(CacheError, match=r"^.*/nowhere: "):
        merge(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(BundleError, match="nowhere"):
        score_files("song.wav", bundle="nowhere", out=tmp_path / "s.jsonl")


def test_score_files_refuses_a_folder_at_once(tmp_path):
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(OutputExistsError, match=r"dir\.csv: is a folder, expected a file to write; "):
        score_files([Path("nowhere.wav")], bundle="nowhere", out=tmp_path / "dir.csv", overwrite=True)
