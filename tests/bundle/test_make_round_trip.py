"""A bundle that was made is loaded as what it was made of."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from audiomos_cache.bundle.load import load_bundle
from audiomos_cache.bundle.make import make_bundle
from audiomos_cache.evaluation.predictions import read_predictions
from audiomos_cache.fusion.align import fuse_predictions
from audiomos_cache.fusion.fuse import fuse
from audiomos_cache.runs import Run, checkpoint_path
from audiomos_cache.training.loop import predictions_of, run_head
from tests.support.bundle import METHODS
from tests.support.training import batches_of


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_bundle_predicts_what_fuse_wrote(method, made, tmp_path):
    make_bundle(made.runs[::-1], tmp_path / "model", made.fused(method), check=False)
    bundle = load_bundle(str(tmp_path / "model"))
    batches = batches_of(made.cache, "eval")
    members = [predictions_of(run_head(member.head, batches), batches) for member in bundle.members]
    found, expected = (
        fuse_predictions(bundle.fusion, members),
        read_predictions(made.fused(method) / "fused.eval.jsonl"),
    )
    assert found.ids == expected.ids
    assert found.mi.tolist() == expected.mi.tolist()
    assert found.ta.tolist() == expected.ta.tolist()


def test_a_loaded_head_is_its_runs_frozen(made, ridge_bundle):
    bundle = load_bundle(str(ridge_bundle))
    assert [member.name for member in bundle.members] == [run.name for run in made.runs]
    assert bundle.fusion.names == tuple(run.name for run in made.runs)
    for member, run in zip(bundle.members, made.runs, strict=True):
        weights = load_file(checkpoint_path(run, "loss"))
        assert member.head.state_dict().keys() == weights.keys()
        assert all(torch.equal(member.head.state_dict()[name], tensor) for name, tensor in weights.items())
        assert not member.head.training
        assert not any(parameter.requires_grad for parameter in member.head.parameters())
        assert member.layers == (0,)


def test_a_loaded_bundle_says_what_features_it_takes(made, ridge_bundle):
    bundle = load_bundle(str(ridge_bundle))
    assert bundle.fingerprint == Run(made.runs[0]).fingerprint
    assert (bundle.audio_encoder.name, bundle.text_encoder.name) == ("fake-audio", "fake-text")
    assert (bundle.audio_encoder.source, bundle.audio_encoder.revision) == ("none", "none")
    assert bundle.name == str(ridge_bundle)


def test_loading_leaves_the_global_generator_alone(ridge_bundle):
    torch.manual_seed(1984)
    expected = torch.rand(3).tolist()
    torch.manual_seed(1984)
    load_bundle(str(ridge_bundle))
    assert torch.rand(3).tolist() == expected


def test_the_same_runs_and_fusion_give_the_same_bytes(made, ridge_bundle, tmp_path):
    again = make_bundle(made.runs[::-1], tmp_path / "other" / "name", made.fused("ridge"), check=False).folder
    files = sorted(str(path.relative_to(again)) for path in again.rglob("*") if path.is_file())
    assert files == [
        "README.md",
        "bundle.yaml",
        "fusion.json",
        "heads/cross-attention-dist-seed2.safetensors",
        "heads/pooling-dist-seed1.safetensors",
    ]
    for file in files:
        assert (again / file).read_bytes() == (ridge_bundle / file).read_bytes(), file
    assert load_bundle(str(again)).digest == load_bundle(str(ridge_bundle)).digest


def test_two_bundles_have_two_digests(made, ridge_bundle, tmp_path):
    other = make_bundle(made.runs, tmp_path / "model", made.fused("weighted"), check=False)
    assert other.digest != load_bundle(str(ridge_bundle)).digest


def test_a_bundle_tells_nothing_of_where_it_was_made(made, ridge_bundle):
    paths = [str(made.folder), str(made.folder.name), str(ridge_bundle), f"{Path.home()}/"]
    for path in (path for path in ridge_bundle.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert [each for each in paths if each.encode() in content] == [], path


def test_nothing_is_pickled(made, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a pickle was read or written")

    for module, name in ((torch, "load"), (torch, "save"), (pickle, "load"), (pickle, "dump"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refuse)
    make_bundle(made.runs, tmp_path / "model", made.fused("ridge"), check=False)
    load_bundle(str(tmp_path / "model"))


def test_one_run_needs_no_fusion(made, tmp_path):
    make_bundle(made.runs[:1], tmp_path / "model", best="srcc", check=False)
    bundle = load_bundle(str(tmp_path / "model"))
    weights = load_file(checkpoint_path(made.runs[0], "srcc"))
    assert all(torch.equal(bundle.members[0].head.state_dict()[name], tensor) for name, tensor in weights.items())
    batches = batches_of(made.cache, "eval")
    alone = predictions_of(run_head(bundle.members[0].head, batches), batches)
    np.testing.assert_array_equal(fuse_predictions(bundle.fusion, [alone]).mi, alone.mi)


def test_two_checkpoints_of_one_run_are_two_members(made, tmp_path):
    files = [made.runs[0] / "predictions" / f"eval.{best}.jsonl" for best in ("loss", "combined")]
    fuse(files, out=tmp_path / "fused", method="mean")
    make_bundle(made.runs[:1], tmp_path / "model", tmp_path / "fused", check=False)
    names = [member.name for member in load_bundle(str(tmp_path / "model")).members]
    assert names == ["pooling-dist-seed1", "pooling-dist-seed1-combined"]
