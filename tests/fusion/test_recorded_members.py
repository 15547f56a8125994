"""Members of a fusion that are found again, among files or runs, when it is applied later."""

import shutil

import numpy as np
import pytest

from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.predictions import read_predictions, write_predictions
from audiomos_cache.fusion.align import fuse_predictions
from tests.support.fusion import DEV, EVAL, apply_fusion, distribution, fuse, make_run


def test_files_of_other_members_are_refused(tmp_path, fused_files):
    with pytest.raises(DataError, match=r"2 files, expected one for each of 3 members, in the order .*dist_a"):
        apply_fusion(fused_files, EVAL[:2], tmp_path / "out")
    with pytest.raises(DataError, match=r"dist_b_dev\.pt: is of the member .*dist_b_dev\.pt, expected .*dist_a_dev\.p"):
        apply_fusion(fused_files, [DEV[1], DEV[0], DEV[2]], tmp_path / "out")
    renamed = tmp_path / "mine.pt"
    shutil.copy(DEV[1], renamed)
    with pytest.raises(DataError, match=r"mine\.pt: is of the member .*dist_b_dev\.pt, expected .*dist_a_dev"):
        apply_fusion(fused_files, [renamed, *EVAL[1:]], tmp_path / "out")
    with pytest.raises(DataError, match="mi is a score, expected a distribution on 20 bins as in the fit split"):
        apply_fusion(fused_files, [EVAL[2], EVAL[1], EVAL[0]], tmp_path / "out")


def test_which_file_is_taken_for_which_member_is_reported(tmp_path, fused_files, caplog):
    """Swapped files of one kind cannot be distinguished from the right ones, so a warning shows the pairs."""
    files = [tmp_path / "m2.pt", tmp_path / "m1.pt", tmp_path / "m3.pt"]
    for source, file in zip((EVAL[1], EVAL[0], EVAL[2]), files, strict=True):
        shutil.copy(source, file)
    apply_fusion(fused_files, files, tmp_path / "out")
    pairs = "; ".join(f"{file} as {member}" for file, member in zip(files, DEV, strict=True))
    message = f"files without a run, so their members are taken in the order given: {pairs}"
    assert message in caplog.messages


def numbered_run(folder, seed):
    """A run whose scores are its own, so that another one instead would be noticed."""
    run = make_run(folder, seed=seed, history=[{"epoch": 1, "loss": seed, "dev": {}, "best": ["loss"]}])
    for split in ("dev", "eval", "test"):
        scores = distribution(mi=(1 + seed / 4, 3.0), ta=(2.0, 5 - seed / 4))
        write_predictions(run / "predictions" / f"{split}.loss.jsonl", scores)
    return run


def test_runs_are_known_again_in_any_order_and_place(tmp_path):
    runs = [numbered_run(tmp_path / "runs" / f"r{seed}", seed) for seed in (1, 2, 3)]
    (tmp_path / "list.txt").write_text("a,1.6,2\nb,3,4.4\n")
    fusion = fuse(runs, tmp_path / "out", labels=tmp_path / "list.txt", method="weighted").fusion
    expected = apply_fusion(tmp_path / "out", runs, tmp_path / "one", apply_split="test").predictions
    moved = [tmp_path / "elsewhere" / name for name in ("c", "b", "a")]
    for run, folder in zip(runs, moved, strict=True):
        shutil.copytree(run, folder)
    for sources in (moved[::-1], [tmp_path / "elsewhere"]):
        found = apply_fusion(tmp_path / "out", sources, tmp_path / "two", apply_split="test", overwrite=True)
        assert np.array_equal(found.predictions.mi, expected.mi) and np.array_equal(found.predictions.ta, expected.ta)
    files = [run / "predictions" / "test.loss.jsonl" for run in moved[::-1]]
    found = apply_fusion(tmp_path / "out", files, tmp_path / "three", apply_split="test")
    assert np.array_equal(found.predictions.mi, expected.mi)
    assert not np.array_equal(fuse_predictions(fusion, [read_predictions(path) for path in files]).mi, expected.mi)


def test_another_run_is_refused_whatever_its_name(tmp_path):
    runs = [numbered_run(tmp_path / f"r{seed}", seed) for seed in (1, 2)]
    fuse(runs, tmp_path / "out", method="mean")
    shutil.rmtree(runs[1])
    numbered_run(runs[1], 3)
    for sources in (runs, [run / "predictions" / "test.loss.jsonl" for run in runs]):
        with pytest.raises(DataError) as error:
            apply_fusion(tmp_path / "out", sources, tmp_path / "later", apply_split="test")
        assert str(error.value) == (
            f"not the members that were fused: missing: {runs[1]}; not among them: {sources[1]}; "
            "give those that the fusion was made of"
        )
    assert not (tmp_path / "later").exists()


def test_runs_for_a_fusion_of_files_are_refused(tmp_path, fused_files):
    run = make_run(tmp_path / "run")
    with pytest.raises(DataError, match=r"members that were given as files of no run: .*dist_a_dev\.pt.*; give"):
        apply_fusion(fused_files, [run], tmp_path / "out")
