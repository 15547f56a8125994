import json
from pathlib import Path

import numpy as np
import pytest
import xxhash
import yaml

from audiomos_cache.cache import Fingerprint
from audiomos_cache.dataset import Labels, read_labels
from audiomos_cache.errors import CacheError, ConfigError, DataError, OutputError, OutputExistsError
from audiomos_cache.fusion import METHODS, MeanFusion, RidgeFusion, RidgeWeights, align, fuse
from audiomos_cache.predictions import Predictions, read_predictions, write_predictions
from audiomos_cache.targets import gaussian_distribution

GOLDEN = Path(__file__).parent / "golden" / "fusion"
MODELS = ("dist_a", "dist_b", "coral_c")
DEV, EVAL = ([GOLDEN / f"{model}_{split}.pt" for model in MODELS] for split in ("dev", "eval"))
LABELS = GOLDEN / "dev_mos_list.txt"


def read_answer(path):
    rows = [line.split(",") for line in path.read_text().splitlines()]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], float)


def scalar(ids="ab", mi=(1.0, 2.0), ta=(3.0, 4.0)):
    return Predictions.build(ids, mi, ta)


def distribution(ids="ab", mi=(3.0, 4.0), ta=(1.0, 2.0), bins=4):
    dist = gaussian_distribution(mi, bins, 0.5)
    return Predictions.build(ids, mi, ta, dist, dist[:, ::-1])


F00D = Fingerprint.of({"audio_encoder": {"name": "f00d"}}).digest


def make_run(folder, fingerprint="f00d", splits=("dev", "eval"), best="loss"):
    (folder / "predictions").mkdir(parents=True)
    fields = {"audio_encoder": {"name": fingerprint}}
    config = {"seed": 1, "fingerprint": Fingerprint.of(fields).digest, "fingerprint_fields": fields}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for split in splits:
        write_predictions(folder / "predictions" / f"{split}.{best}.jsonl", distribution())
    return folder


# The methods


def test_mean_by_hand():
    fused = MeanFusion(["x", "y"]).apply([scalar(), distribution()])
    assert fused.ids == ("a", "b")
    assert fused.mi.tolist() == [2.0, 3.0]
    assert fused.ta.tolist() == [2.0, 3.0]
    assert fused.mi_dist is None and fused.ta_dist is None


def test_mean_averages_distributions_on_the_same_bins():
    one, other = distribution(), distribution(mi=(1.0, 5.0))
    fused = MeanFusion(["x", "y"]).apply([one, other])
    assert np.allclose(fused.mi_dist, (one.mi_dist + other.mi_dist) / 2)
    assert np.allclose(fused.ta_dist, (one.ta_dist + other.ta_dist) / 2)
    assert MeanFusion(["x", "y"]).apply([one, distribution(bins=5)]).mi_dist is None


def test_mean_describes_itself():
    assert MeanFusion(["x", "y"]).to_json() == {"method": "mean", "members": ["x", "y"], "weights": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("files", "expected"), [(EVAL, "expected_answer_ridge.txt"), (DEV, "expected_dev_answer_ridge.txt")]
)
def test_ridge_gives_the_originals_answer(tmp_path, files, expected):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=files)
    ids, scores = read_answer(tmp_path / "out" / "answer.txt")
    expected_ids, expected_scores = read_answer(GOLDEN / expected)
    assert ids == expected_ids
    assert np.abs(scores - expected_scores).max() < 1e-6


def test_ridge_can_be_applied_from_its_json():
    members = [read_predictions(path) for path in DEV]
    fusion = RidgeFusion(MODELS).fit(members, read_labels(LABELS))
    described = json.loads(json.dumps(fusion.to_json()))
    assert {key: described[key] for key in ("method", "members", "alpha", "score_sigma")} == {
        "method": "ridge",
        "members": list(MODELS),
        "alpha": 1.0,
        "score_sigma": 0.35,
    }
    new = [read_predictions(path) for path in EVAL]
    for target in ("mi", "ta"):
        weights = described[target]
        assert weights["features"] == ["distribution", "distribution", "score"]
        assert weights["bins"] == [20, 20, 20]
        features = [
            getattr(new[0], f"{target}_dist"),
            getattr(new[1], f"{target}_dist"),
            gaussian_distribution(getattr(new[2], target), 20, described["score_sigma"]),
        ]
        scores = np.concatenate(features, axis=1) @ np.concatenate(weights["coefficients"]) + weights["intercept"]
        assert np.allclose(getattr(fusion.apply(new), target), scores.clip(1, 5), atol=1e-12)


def test_ridge_joins_labels_by_id():
    members = [read_predictions(path) for path in DEV]
    labels = read_labels(LABELS)
    turned = Labels(labels.ids[::-1], labels.systems[::-1], labels.mi[::-1], labels.ta[::-1])
    one, other = (RidgeFusion(MODELS).fit(members, given).apply(members) for given in (labels, turned))
    assert np.array_equal(one.mi, other.mi) and np.array_equal(one.ta, other.ta)


def test_ridge_by_hand_is_clipped_to_the_scale():
    fusion = RidgeFusion(["x"])
    fusion.weights["mi"] = RidgeWeights(("distribution",), (np.array([0.0, 1.0, 2.0]),), 1.5)
    fusion.weights["ta"] = RidgeWeights(("distribution",), (np.array([-9.0, 0.0, 9.0]),), 3.0)
    dist = [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    fused = fusion.apply([Predictions.build("abc", [3.0] * 3, [3.0] * 3, dist, dist)])
    assert fused.mi.tolist() == [3.0, 3.5, 1.5]
    assert fused.ta.tolist() == [5.0, 5.0, 1.0]
    assert fused.mi_dist is None and fused.ta_dist is None


@pytest.mark.parametrize(("bins", "expected"), [((10,), [10, 10]), ((10, 5), [10, 5, 20]), ((), [20])])
def test_a_scalar_member_takes_the_others_bins_or_20(bins, expected):
    members = [*(distribution(bins=k) for k in bins), scalar()]
    labels = Labels(("a", "b"), ("S", "S"), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    fusion = RidgeFusion([f"m{n}" for n in range(len(members))]).fit(members, labels)
    assert fusion.to_json()["mi"]["bins"] == expected


def test_ridge_refuses_members_in_another_order():
    labels = Labels(("a", "b"), ("S", "S"), np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    fusion = RidgeFusion(["x", "y"]).fit([scalar(), distribution()], labels)
    with pytest.raises(DataError) as error:
        fusion.apply([distribution(), scalar()])
    assert str(error.value) == (
        "x: mi is a distribution on 4 bins, expected a score on 4 as in the fit split; "
        "give both splits' files in the same order"
    )


def test_ridge_needs_labels_of_the_same_clips():
    with pytest.raises(DataError, match="ridge: no labels to fit on; give the fit split's list with --labels"):
        RidgeFusion(["x"]).fit([scalar()], None)
    labels = Labels(("a",), ("S",), np.array([1.0]), np.array([3.0]))
    with pytest.raises(DataError, match=r"x: clips that are not in the labels: b; both must hold the same clips"):
        RidgeFusion(["x"]).fit([scalar()], labels)


def test_align_names_the_first_five_and_the_count():
    wide = Predictions.build("abcdefgh", range(8), range(8))
    with pytest.raises(DataError) as error:
        align([wide, scalar()], ["x", "y"])
    assert str(error.value) == ("y: missing clips of x: c, d, e, f, g, ... (6 in all); both must hold the same clips")
    assert align([scalar(), distribution()], ["x", "y"]) == ("a", "b")


@pytest.mark.parametrize(("names", "expected"), [([], "at least 1"), (["x", "y"], "2")])
def test_align_wants_a_member_for_each_name(names, expected):
    with pytest.raises(DataError, match=f"predictions to fuse, expected {expected}"):
        align([scalar()] if names else [], names)


# Runs, files, the folder that is written


def test_runs_by_mean(tmp_path):
    runs = [make_run(tmp_path / name, splits=["eval"]) for name in ("one", "two")]
    fused = fuse(runs, tmp_path / "out", method="mean")
    assert fused.mi.tolist() == [3.0, 4.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "answer.txt",
        "fused.eval.jsonl",
        "fusion.json",
    ]
    assert read_predictions(tmp_path / "out" / "fused.eval.jsonl").mi.tolist() == [3.0, 4.0]
    assert (tmp_path / "out" / "answer.txt").read_text() == "a,3.00000000,1.00000000\nb,4.00000000,2.00000000\n"


def test_runs_by_ridge_on_the_splits_and_the_best_that_were_asked_for(tmp_path):
    run = make_run(tmp_path / "run", splits=["test", "demo"], best="srcc")
    (tmp_path / "list.txt").write_text("b.wav,4.0,2.0\na.wav,3.0,1.0\n")
    fuse(
        [run],
        tmp_path / "out",
        labels=tmp_path / "list.txt",
        fit_split="test",
        apply_split="demo",
        best="srcc",
    )
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (tmp_path / "out" / "fused.demo.jsonl").is_file()
    assert (record["fit_split"], record["apply_split"], record["fingerprint"]) == ("test", "demo", F00D)
    assert record["fit"][0]["path"] == str(run / "predictions" / "test.srcc.jsonl")


def test_record_tells_what_went_in(tmp_path):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL)
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())

    def identity(path):
        return {"path": str(path), "xxh3_128": xxhash.xxh3_128_hexdigest(path.read_bytes())}

    assert record["method"] == "ridge"
    assert record["members"] == [str(path) for path in DEV]
    assert record["fit"] == [identity(path) for path in DEV]
    assert record["apply"] == [identity(path) for path in EVAL]
    assert record["labels"] == identity(LABELS)
    assert record["versions"].keys() == {"audiomos-cache", "numpy", "scikit-learn"}
    assert np.array(record["mi"]["coefficients"]).shape == (3, 20)


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    contents = []
    for name in ("one", "two"):
        fuse(DEV, tmp_path / name, labels=LABELS, apply=EVAL)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert len(contents[0]) == 3
    assert contents[0] == contents[1]


def test_mean_of_files_needs_no_fit_split(tmp_path):
    alone = fuse(EVAL, tmp_path / "one", method="mean")
    paired = fuse(DEV, tmp_path / "two", method="mean", apply=EVAL, labels=LABELS)
    assert np.array_equal(alone.mi, paired.mi)
    assert len(alone.ids) == 60
    record = json.loads((tmp_path / "two" / "fusion.json").read_text())
    assert record["fit"] == [] and record["fit_split"] is None and record["labels"] is None


def test_runs_are_of_dev_and_eval_unless_told(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "list.txt").write_text("b.wav,4.0,2.0\na.wav,3.0,1.0\n")
    fuse([run], tmp_path / "out", labels=tmp_path / "list.txt")
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (record["fit_split"], record["apply_split"]) == ("dev", "eval")
    assert record["fit"][0]["path"] == str(run / "predictions" / "dev.loss.jsonl")


def test_files_claim_no_split_unless_told(tmp_path):
    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL)
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (record["fit_split"], record["apply_split"]) == (None, None)
    assert read_predictions(tmp_path / "out" / "fused.jsonl").ids == read_predictions(EVAL[0]).ids

    fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL, fit_split="dev", apply_split="mine", overwrite=True)
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert (record["fit_split"], record["apply_split"]) == ("dev", "mine")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["answer.txt", "fused.mine.jsonl", "fusion.json"]


def test_labels_may_be_the_fit_splits_rows_of_a_manifest(tmp_path):
    run = make_run(tmp_path / "run")
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,prompt,split,mi,ta\nc.wav,x,eval,,\nb.wav,x,dev,4,2\na.wav,x,dev,3,1\n")
    (tmp_path / "list.txt").write_text("b.wav,4,2\na.wav,3,1\n")
    by_manifest = fuse([run], tmp_path / "one", labels=manifest)
    by_list = fuse([run], tmp_path / "two", labels=tmp_path / "list.txt")
    assert np.array_equal(by_manifest.mi, by_list.mi)
    with pytest.raises(DataError, match=r"m\.csv: no split 'test', expected one of dev, eval"):
        fuse([make_run(tmp_path / "other", splits=["test", "eval"])], tmp_path / "x", labels=manifest, fit_split="test")


def test_runs_of_different_fingerprints_are_refused(tmp_path):
    runs = [make_run(tmp_path / "one", "aaaa"), make_run(tmp_path / "two", "bbbb")]
    with pytest.raises(CacheError) as error:
        fuse(runs, tmp_path / "out", method="mean")
    first, *forms = str(error.value).splitlines()
    assert first.startswith(f"{runs[1]}: fingerprint ")
    assert first.endswith(
        f"; first difference: audio_encoder.name is 'bbbb', expected 'aaaa'; fuse runs of one cache only, as {runs[0]}"
    )
    assert forms == [
        '  found:    {"audio_encoder":{"name":"bbbb"}}',
        '  expected: {"audio_encoder":{"name":"aaaa"}}',
    ]


def test_an_imported_run_fuses_with_any(tmp_path):
    runs = [make_run(tmp_path / name, name) for name in ("one", "two")]
    config = yaml.safe_load((runs[0] / "config.yaml").read_text())
    (runs[0] / "config.yaml").write_text(
        yaml.safe_dump(config | {"fingerprint": "unknown", "fingerprint_fields": None})
    )
    fuse(runs, tmp_path / "out", method="mean")
    record = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert record["fingerprint"] == Fingerprint.of({"audio_encoder": {"name": "two"}}).digest


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "run: no config.yaml in it, so not a run; train-head makes runs"),
        (b"a: [", "config.yaml: cannot be read as YAML ("),
        (b"\xff\x00", "config.yaml: cannot be read as YAML ("),
        (b"seed: 1", "config.yaml: fingerprint is None, expected a text; train the run again"),
        (b"- 1", "config.yaml: fingerprint is None, expected a text; train the run again"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, config, message):
    run = make_run(tmp_path / "run")
    (run / "config.yaml").unlink()
    if config is not None:
        (run / "config.yaml").write_bytes(config)
    with pytest.raises(DataError) as error:
        fuse([run], tmp_path / "out", method="mean")
    assert message in str(error.value)


def test_a_run_without_predictions_of_the_split_is_refused(tmp_path):
    run = make_run(tmp_path / "run", splits=["dev"])
    with pytest.raises(DataError) as error:
        fuse([run], tmp_path / "out", method="mean")
    assert str(error.value) == (
        f"{run}/predictions/eval.loss.jsonl: does not exist; "
        f"make it with audiomos-cache predict --run {run} --split eval"
    )


def test_runs_and_files_do_not_mix(tmp_path):
    run = make_run(tmp_path / "run")
    message = "run folders and predictions files do not mix; give only the one kind"
    with pytest.raises(DataError, match=message):
        fuse([DEV[0], run], tmp_path / "out", labels=LABELS)
    with pytest.raises(DataError, match=message):
        fuse([run], tmp_path / "out", labels=LABELS, apply=EVAL)


def test_ridge_wants_a_file_to_apply_for_each_to_fit(tmp_path):
    with pytest.raises(DataError) as error:
        fuse(DEV, tmp_path / "out", labels=LABELS, apply=EVAL[:2])
    assert str(error.value) == (
        "2 files of the apply split, expected 3: give --apply FILE once for each file of the fit split, "
        "in the same order"
    )


def test_files_of_different_clips_are_refused_by_their_own_names(tmp_path):
    with pytest.raises(DataError, match=r"dist_b_dev\.pt: missing clips of .*dist_a_eval\.pt: "):
        fuse(DEV, tmp_path / "out", labels=LABELS, apply=[EVAL[0], DEV[1], EVAL[2]])


def test_unknown_method(tmp_path):
    with pytest.raises(ConfigError, match="fusion method 'median' is not one of mean, ridge"):
        fuse(EVAL, tmp_path / "out", method="median")
    assert sorted(METHODS) == ["mean", "ridge"]


def test_a_folder_with_content_is_replaced_only_when_asked(tmp_path):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean", apply_split="dev")
    with pytest.raises(OutputExistsError) as error:
        fuse(EVAL, out, method="mean")
    assert str(error.value) == (
        f"{out}: holds answer.txt, fused.dev.jsonl, fusion.json; give another --out, or --overwrite"
    )
    fuse(EVAL, out, method="mean", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["answer.txt", "fused.jsonl", "fusion.json"]
    assert list(tmp_path.iterdir()) == [out]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    fuse(EVAL, tmp_path / "out", method="mean")
    assert (tmp_path / "out" / "answer.txt").is_file()


def test_overwrite_never_loses_what_no_fusion_wrote(tmp_path):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean")
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError) as error:
        fuse(EVAL, out, method="mean", overwrite=True)
    assert str(error.value) == (
        f"{out}: holds thesis.tex, which no fusion wrote and --overwrite would lose; give another --out"
    )
    assert (out / "thesis.tex").read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputExistsError, match="out: is a file, expected a folder to make; give another --out"):
        fuse(EVAL, tmp_path / "out", method="mean", overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_failure_while_writing_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audiomos_cache.fusion.fusing.write_answer", full)
    with pytest.raises(OSError, match="No space left"):
        fuse(EVAL[:1], out, method="mean", overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_failure_while_replacing_puts_the_old_folder_back(tmp_path, monkeypatch):
    out = tmp_path / "out"
    fuse(EVAL, out, method="mean")
    rename = Path.rename

    def refuse_new(path, target):
        if path.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(OutputError, match=r"/out: cannot be written: Input/output error; mend that, or give another -"):
        fuse(EVAL[:1], out, method="mean", overwrite=True)
    assert len(json.loads((out / "fusion.json").read_text())["members"]) == 3
    assert list(tmp_path.iterdir()) == [out]


def test_a_split_that_cannot_name_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"found the split '\.\./x', expected letters"):
        fuse([tmp_path / "a.jsonl"], tmp_path / "out", method="mean", apply_split="../x")
