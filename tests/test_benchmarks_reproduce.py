"""`make reproduce`: its numbers are right, it resumes, and what is sent back names nobody and nothing."""

import csv
import importlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from scipy.stats import kendalltau, spearmanr

from audiomos_cache import Cache, Scorer
from audiomos_cache.dataset.loading import load_dataset
from audiomos_cache.errors import DataError, OutputExistsError
from audiomos_cache.locks import locked
from audiomos_cache.testing import make_dataset

pytestmark = pytest.mark.xdist_group("reproduce")  # the run on made-up music is made once

ROOT = Path(__file__).parents[1]
NOTICE = "made labels, untrained encoders: shows that it runs, nothing more"
PERSON, MACHINE = "ada-lovelace", "analytical-engine"
STEPS = ["muq-eval-a1", "extract", "train", "baselines", "fuse", "bundle", "evaluate"]


@pytest.fixture(scope="module")
def script():
    """The scripts import each other as they do when one of them is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module


@pytest.fixture(scope="module")
def reproduce(script):
    return script("reproduce")


@pytest.fixture(scope="module")
def steps(script):
    return script("resumable_steps")


@pytest.fixture(scope="module")
def split(script):
    return script("official_split")


@pytest.fixture(scope="module")
def published(script):
    return script("published")


@pytest.fixture(scope="module")
def probe(script):
    return script("ridge_probe")


def run(reproduce, *arguments):
    return CliRunner().invoke(reproduce.main, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def out(reproduce, tmp_path_factory):
    """The folder of a whole run on made-up music."""
    folder = tmp_path_factory.mktemp(PERSON) / "results"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("USER", "LOGNAME", "HOSTNAME"):
            patch.setenv(name, MACHINE if name == "HOSTNAME" else PERSON)
        for module, function in ((platform, "node"), (socket, "gethostname"), (socket, "getfqdn")):
            patch.setattr(module, function, lambda: MACHINE)
        result = run(reproduce, "--data", "demo", "--out", folder)
    assert result.exit_code == 0, result.output
    assert (folder / "results.md").read_text() in result.stdout
    return folder


@pytest.fixture(scope="module")
def results(out):
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small dataset in MusicEval's layout."""
    return make_dataset(tmp_path_factory.mktemp("reproduce") / "data", prompts=3, seconds=(0.1, 0.2))


def labels_of(out, name="test"):
    """The labels of a split's clips, read without our code."""
    with (out / "data" / "sets" / f"{name}_mos_list.txt").open(newline="") as file:
        return {row[0].removesuffix(".wav"): (float(row[1]), float(row[2])) for row in csv.reader(file)}


def lines_of(path):
    return {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}


def assert_agrees(numbers, predicted, truth):
    """Compare our numbers of one target at both levels with those of scipy; {clip: score} each."""
    target = numbers["target"]
    systems = {clip: re.search(r"S\d+", clip)[0] for clip in truth}
    pairs = [(predicted[clip], truth[clip]) for clip in truth]
    names = sorted(set(systems.values()))
    means = [
        tuple(np.mean([each[clip] for clip in truth if systems[clip] == name]).round(9) for each in (predicted, truth))
        for name in names
    ]
    for level, points in (("utt", pairs), ("sys", means)):
        view = numbers[f"{level}_{target}"]
        x, y = np.transpose(points)
        expected = {
            "mse": np.mean((x - y) ** 2),
            "lcc": np.corrcoef(x, y)[0, 1],
            "srcc": spearmanr(x, y).statistic,
            "ktau": kendalltau(x, y).statistic,
        }
        assert {name: view[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        for name in expected:
            if view[f"{name}_ci"]:
                low, high = view[f"{name}_ci"]
                assert low < high


@pytest.mark.slow
def test_the_numbers_are_those_of_scipy(out, results):
    truth = labels_of(out)
    assert (len(truth), results["data"]["clips"]["test"]) == (16, 16)
    files = {
        "muq-eval-a1": out / "predictions" / "muq-eval-a1.jsonl",
        "ridge-probe": out / "predictions" / "ridge-probe.jsonl",
        "transformer-coral-seed1510": out / "runs/transformer-coral-seed1510/predictions/test.loss.jsonl",
        "fused-mean": out / "fused-mean" / "fused.test.jsonl",
        "fused-ridge": out / "fused-ridge" / "fused.test.jsonl",
    }
    for name, path in files.items():
        rows = lines_of(path)
        for column, target in enumerate(("mi", "ta")):
            predicted = {clip: row[target] for clip, row in rows.items()}
            numbers = results["numbers"][name] | {"target": target}
            assert_agrees(numbers, predicted, {clip: both[column] for clip, both in truth.items()})
    for name in ("muq-eval-a1", "fused-mean", "fused-ridge"):
        predicted = {clip: row["mi"] for clip, row in lines_of(files[name]).items()}
        numbers = results["numbers"][f"{name}, MI as TA"] | {"target": "ta"}
        assert_agrees(numbers, predicted, {clip: ta for clip, (_, ta) in truth.items()})
    assert len(results["numbers"]) == 3 + 8 + 2 + 3
    assert {(each["n_clips"], each["n_systems"]) for each in results["numbers"].values()} == {(16, 8)}


@pytest.mark.slow
def test_the_published_head_was_heard_as_it_was_released(out, results):
    """Its own scores of the test clips, without prompts: the file of scores holds them."""
    scores = lines_of(out / "muq-eval-a1.jsonl")
    predicted = lines_of(out / "predictions" / "muq-eval-a1.jsonl")
    assert scores.keys() == predicted.keys() == labels_of(out).keys()
    for clip, row in scores.items():
        assert (row["mi"], row["scores"]["ta_without_prompt"]) == (predicted[clip]["mi"], predicted[clip]["ta"])
        assert (row["ta"], row["prompt"]) == (None, None)
        assert results["muq_eval_a1"]["bundle"].items() <= row["bundle"].items()
    assert results["muq_eval_a1"]["without_score"] == 0


@pytest.mark.slow
def test_the_bundle_gives_the_fused_scores(out, results):
    """So the file to publish is what the numbers are of."""
    clips = load_dataset(out / "data", ("test",))["test"]
    scorer = Scorer(out / "bundle", device="cpu")
    assert scorer.digests == (results["bundle"]["digest"],)
    scores = scorer.score([clip.path for clip in clips], [clip.prompt for clip in clips])
    truth = labels_of(out)
    for column, target in enumerate(("mi", "ta")):
        predicted = {clip.id: getattr(score, target) for clip, score in zip(clips, scores, strict=True)}
        x, y = zip(*((predicted[clip], truth[clip][column]) for clip in truth), strict=True)
        assert results["numbers"]["fused-ridge"][f"utt_{target}"]["srcc"] == pytest.approx(
            spearmanr(x, y).statistic, abs=1e-6
        )


@pytest.mark.slow
def test_the_baselines_are_fitted_to_train_alone(out, results):
    train, test = labels_of(out, "train"), labels_of(out)
    mean = np.mean([mi for mi, _ in train.values()])
    mse = np.mean([(mi - mean) ** 2 for mi, _ in test.values()])
    assert results["numbers"]["train-mean"]["utt_mi"]["mse"] == pytest.approx(mse)
    assert results["numbers"]["train-mean"]["utt_mi"]["srcc"] is None

    cache = Cache(out / "cache")

    def columns(split):
        """Mean and standard deviation of the frames, and the mean of the tokens, by hand."""
        reader, rows = cache.reader(split), []
        for clip in range(len(reader)):
            frames = reader.read_frames(clip).astype(float)
            deviation = ((frames - frames.mean(0)) ** 2).mean(0) ** 0.5
            rows.append([*frames.mean(0), *deviation, *reader.read_prompt(clip).tokens.astype(float).mean(0)])
        return reader.ids, np.array(rows)

    _, features = columns("train")
    ids, held_out = columns("test")
    ta = np.array([train[clip][1] for clip in cache.reader("train").ids])
    scale = features.std(0)
    x, z = (features - features.mean(0)) / scale, (held_out - features.mean(0)) / scale
    penalty = results["ridge_probe"]["chosen"]["ta"]["penalty"]
    assert results["ridge_probe"]["chosen"]["ta"]["columns"] == x.shape[1] == 2 * 128 + 64
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (ta - ta.mean()))
    expected = dict(zip(ids, z @ weights + ta.mean(), strict=True))
    found = lines_of(out / "predictions" / "ridge-probe.jsonl")
    assert {clip: row["ta"] for clip, row in found.items()} == pytest.approx(expected, abs=1e-8)


def test_the_probe_chooses_its_penalty_by_leave_one_out(probe):
    rng = np.random.default_rng(0)
    features = rng.normal(5, 2, (30, 40))
    features[:, 3], features[:, 7] = 4.0, 4.0 + rng.normal(0, 1e-4, 30)
    truth = features[:, 0] / 4 + rng.normal(0, 0.3, 30)
    fitted = probe.Probe.fit(features, truth)
    assert fitted.about()["near_constant"] == 2 and not fitted.columns[[3, 7]].any()
    x = np.delete(features, [3, 7], axis=1)
    x = (x - x.mean(0)) / x.std(0)

    def error(penalty):
        """Of each clip by a ridge that is fitted to the others."""
        errors = []
        for row in range(len(x)):
            others, known = np.delete(x, row, axis=0), np.delete(truth, row)
            centred = others - others.mean(0)
            gram = centred.T @ centred + penalty * np.eye(x.shape[1])
            weights = np.linalg.solve(gram, centred.T @ (known - known.mean()))
            errors.append((x[row] - others.mean(0)) @ weights + known.mean() - truth[row])
        return np.mean(np.square(errors))

    assert fitted.about()["penalty"] == min(probe.PENALTIES, key=error)


@pytest.mark.slow
def test_published_figures_stand_beside_ours(results):
    rows = results["published"]
    assert {(row["row"], row["view"], row["measure"]): row["published"] for row in rows} == {
        ("muq-eval-a1", "utt_mi", "srcc"): 0.8089,
        ("muq-eval-a1", "utt_mi", "lcc"): 0.8085,
        ("muq-eval-a1", "utt_mi", "mse"): 0.2950,
        ("muq-eval-a1", "utt_ta", "srcc"): 0.5503,
        ("muq-eval-a1", "utt_ta", "lcc"): 0.5393,
        ("muq-eval-a1", "utt_ta", "mse"): 0.5664,
        ("muq-eval-a1, MI as TA", "utt_ta", "srcc"): 0.6047,
        **{
            (name, view, "srcc"): value
            for name in ("transformer-dist-seed1984", "fused-mean", "fused-ridge")
            for view, value in (("sys_mi", 0.991), ("sys_ta", 0.952))
        },
    }
    for row in rows:
        numbers = results["numbers"][row["row"]][row["view"]]
        assert (row["here"], row["here_ci"]) == (numbers[row["measure"]], numbers[f"{row['measure']}_ci"])
        assert row["difference"] == row["here"] - row["published"]
        assert (row["published_clips"], row["our_clips"]) == (413, 16)
        assert re.search(r"arXiv \d{4}\.\d{5}", row["source"])


def test_a_number_that_is_not_defined_has_no_difference(published):
    agreement = {"mse": 1.0, "lcc": None, "srcc": None} | dict.fromkeys(("mse_ci", "lcc_ci", "srcc_ci"))
    views = dict.fromkeys(("utt_mi", "utt_ta", "sys_mi", "sys_ta"), agreement)
    names = {name for figure in published.FIGURES for name in figure.rows}
    rows = published.comparisons(dict.fromkeys(names, views | {"n_clips": 413}))
    assert [row["difference"] for row in rows if row["measure"] == "srcc"] == [None] * 9
    assert {row["published_in_our_interval"] for row in rows} == {None}


@pytest.mark.slow
def test_the_results_say_what_they_are(out, results):
    assert results["notice"] == NOTICE
    headings = [line for line in (out / "results.md").read_text().splitlines() if line.startswith("#")]
    assert len(headings) == 3 and all(NOTICE in heading for heading in headings)
    assert list(results["seconds"]) == STEPS
    assert all(seconds >= 0 for seconds in results["seconds"].values())
    assert results["machine"]["python"] == platform.python_version() and results["machine"]["cpu"]
    assert results["versions"]["torch"] and results["versions"]["audiomos-cache"]
    assert results["cache"]["fingerprint"] == Cache(out / "cache").fingerprint.digest
    assert results["data"]["clips"] == {"train": 64, "dev": 16, "test": 16}
    assert results["data"]["systems"] == {"train": 8, "dev": 8, "test": 8}
    assert results["fused_ridge"]["dev_out_of_fold"]["scores"]["n_clips"] == 16
    assert len(results["heads"]["runs"]) == 8


def text_of(path):
    """What a file says; of safetensors, its header."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        content = content[8 : 8 + int.from_bytes(content[:8], "little")]
    return content.decode()


@pytest.mark.slow
def test_what_leaves_the_machine_names_no_clip_prompt_person_or_folder(out):
    clips = [clip for each in load_dataset(out / "data", ("train", "dev", "test")).values() for clip in each]
    names = {clip.id for clip in clips} | {clip.prompt for clip in clips} | {clip.system for clip in clips}
    names |= {clip.prompt_id for clip in clips} | {str(out.parent), str(ROOT), PERSON, MACHINE, "audiomos2025"}
    leaving = [out / "results.json", out / "results.md", *(path for path in (out / "bundle").rglob("*"))]
    leaving = [path for path in leaving if path.is_file()]
    assert len(leaving) == 2 + 3 + 8
    for path in leaving:
        assert [name for name in names if name in text_of(path)] == [], path


@pytest.mark.slow
def test_a_second_run_does_nothing_and_gives_the_same(reproduce, out, monkeypatch):
    before = (out / "results.json").read_bytes()

    def refuse(*_arguments, **_options):
        raise AssertionError("a step that was done is done again")

    for name in ("score_files", "extract", "train_head", "fuse", "make_bundle", "evaluate", "ridge_probe"):
        monkeypatch.setattr(reproduce, name, refuse)
    result = run(reproduce, "--data", "demo", "--out", out)
    assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in result.stderr.splitlines() if "done before" in line] == STEPS
    assert (out / "results.json").read_bytes() == before


@pytest.mark.slow
def test_after_an_interrupt_the_same_command_gives_the_same_numbers(reproduce, results, tmp_path, monkeypatch):
    train_head = reproduce.train_head
    trained = []

    def interrupted(*arguments, progress, **options):
        def report(what, done, total, note=""):
            trained.append(what)
            if len(set(trained)) == 3:
                raise KeyboardInterrupt
            progress(what, done, total, note)

        return train_head(*arguments, progress=report, **options)

    monkeypatch.setattr(reproduce, "train_head", interrupted)
    result = run(reproduce, "--data", "demo", "--out", tmp_path / "results")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.endswith("Interrupted. What was finished is kept.\n")
    kept = json.loads((tmp_path / "results" / "steps.json").read_text())["steps"]
    assert {name: step["finished"] for name, step in kept.items()} == {
        "muq-eval-a1": True,
        "extract": True,
        "train": False,
    }
    assert not (tmp_path / "results" / "results.json").exists()

    monkeypatch.setattr(reproduce, "train_head", train_head)
    result = run(reproduce, "--data", "demo", "--out", tmp_path / "results")
    assert result.exit_code == 0, result.output
    assert "transformer-dist-seed1984: finished already" in result.stderr or "done before" in result.stderr
    again = json.loads((tmp_path / "results" / "results.json").read_text())
    assert again["seconds"]["train"] >= kept["train"]["seconds"]
    same = [{key: value for key, value in each.items() if key != "seconds"} for each in (results, again)]
    assert same[0] == same[1]


@pytest.mark.slow
def test_a_clip_without_a_score_is_left_out_and_counted(reproduce, split, out, tmp_path):
    shutil.copytree(out / "data", tmp_path / "data")
    setup = split.Setup(tmp_path / "data", tmp_path / "results", str(out / "muq-eval-a1"), made_labels=True)
    clips = setup.clips()["test"]
    soundfile.write(clips[0].path, np.zeros(16_000), 16_000)
    found = reproduce.score_with_muq_eval(setup, clips, lambda *_: None)
    assert found["without_score"] == 1
    left = [clip.id for clip in clips[1:]]
    assert sorted(lines_of(setup.predictions("muq-eval-a1"))) == sorted(left)
    assert [line.partition(".wav")[0] for line in setup.labels_of_scored.read_text().splitlines()] == left

    for clip in clips[1:3]:
        soundfile.write(clip.path, np.zeros(16_000), 16_000)
    other = split.Setup(tmp_path / "data", tmp_path / "others", str(out / "muq-eval-a1"), made_labels=True)
    with pytest.raises(DataError, match=r"3 of 16 clips could not be scored: .*correct these files"):
        reproduce.score_with_muq_eval(other, clips, lambda *_: None)


@pytest.mark.slow
def test_another_bundle_in_its_place_is_refused(reproduce, split, out, tmp_path):
    setup = split.Setup(out / "data", tmp_path / "results", str(out / "bundle"), made_labels=True)
    with pytest.raises(DataError, match=r"bundle: predicts mi, ta, expected ta_without_prompt too; give what `audio"):
        reproduce.score_with_muq_eval(setup, setup.clips()["test"], lambda *_: None)


def test_a_folder_of_another_layout_is_told_what_was_expected_where(reproduce, tmp_path):
    (tmp_path / "data" / "wav").mkdir(parents=True)
    result = run(reproduce, "--data", tmp_path / "data", "--out", tmp_path / "results")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{tmp_path / 'data'}: no sets/train_mos_list.txt, sets/dev_mos_list.txt, sets/test_mos_list.txt, " in (
        result.stderr
    )
    assert "expected MusicEval-phase1: wav/, sets/train_mos_list.txt, " in result.stderr
    assert not (tmp_path / "results").exists()


def test_missing_audio_and_prompts_are_found_before_anything_is_done(split, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    setup = split.Setup(tmp_path / "data", tmp_path / "results", "muq-eval-a1")
    clip = setup.clips()["dev"][0]
    clip.path.unlink()
    (tmp_path / "data" / "prompt_info.txt").write_text("id\ttext\n")
    with pytest.raises(DataError, match=rf"{clip.path} does not exist, .* has no prompt, .*unpack the dataset again"):
        setup.clips()


def test_a_labelled_eval_list_takes_the_place_of_a_missing_test_list(split, data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    sets = tmp_path / "data" / "sets"
    setup = split.Setup(tmp_path / "data", tmp_path / "results", "muq-eval-a1")
    assert setup.splits == ("train", "dev", "test")
    (sets / "test_mos_list.txt").rename(sets / "eval_mos_list.txt")
    assert setup.splits == ("train", "dev", "eval")
    assert len(setup.clips()["eval"]) == 8


def test_a_machine_without_a_gpu_is_warned_and_goes_on(reproduce, data, tmp_path, monkeypatch):
    def stop(setup):
        raise DataError(f"went on with {setup.held_out}")

    monkeypatch.setattr(reproduce, "reproduce", stop)
    monkeypatch.setattr(reproduce, "resolve_device", lambda _device: "cpu")
    result = run(reproduce, "--data", data, "--out", tmp_path / "results")
    warning, error = result.stderr.splitlines()
    assert warning.startswith("There is no GPU: the features take hours") and error == "Error: went on with test"


def test_a_folder_of_something_else_is_left_alone(reproduce, data, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    result = run(reproduce, "--data", data, "--out", tmp_path)
    assert result.exit_code == 1
    assert "thesis.tex" in result.stderr and "give another OUT=" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_do_not_write_the_same_folder(reproduce, data, tmp_path):
    (tmp_path / "steps.json").write_text("{}\n")
    with locked(tmp_path / ".lock", "the test"):
        result = run(reproduce, "--data", data, "--out", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path}: is being written by process " in " ".join(result.stderr.split())


def test_steps_are_done_once_and_what_follows_one_that_is_done_again_too(steps, tmp_path):
    (tmp_path / "steps.json").write_text("{}\n")
    calls = []

    def work(name):
        def do():
            calls.append(name)
            (tmp_path / name).touch()
            return {"found": len(calls)}

        return do

    def run_all():
        made = steps.Steps(tmp_path, {"device": "cpu"})
        return [made.run(name, tmp_path / name, work(name)) for name in "abc"]

    assert run_all() == run_all() == [{"found": 1}, {"found": 2}, {"found": 3}]
    assert "".join(calls) == "abc"
    (tmp_path / "b").unlink()
    assert run_all() == [{"found": 1}, {"found": 4}, {"found": 5}]
    with pytest.raises(OutputExistsError, match=r"holds other results: device is 'cpu', requested 'cuda'; give anoth"):
        steps.Steps(tmp_path, {"device": "cuda"})


def test_seconds_of_an_interrupted_step_count(steps, tmp_path, monkeypatch):
    (tmp_path / "steps.json").write_text("{}\n")
    clock = iter([10.0, 13.0, 20.0, 25.0])
    monkeypatch.setattr(steps.time, "monotonic", lambda: next(clock))

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.Steps(tmp_path, {}).run("a", tmp_path, interrupt)
    made = steps.Steps(tmp_path, {})
    assert made.run("a", tmp_path, dict) == {} and made.seconds == {"a": 8.0}


@pytest.mark.process
def test_without_data_the_makefile_gives_its_usage_in_one_line():
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "DATA"))}
    result = subprocess.run(["make", "reproduce"], cwd=ROOT, env=own, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    usage, _ = result.stderr.splitlines()  # and make's own line
    assert usage.startswith("usage: make reproduce DATA=MusicEval-phase1 [OUT=results]")
