"""The run that takes MusicEval, the Hugging Face hub and a GPU: published figures, and ours, on the official split.

make reproduce DATA=MusicEval-phase1                  # in results/; OUT= names another folder
make reproduce DATA=demo OUT=demo-results             # made-up music, tiny encoders: under a minute, without the hub

It scores the test clips with MuQ-Eval-A1; extracts all splits; trains the eight heads of the plan `ensemble8`; fits a
ridge probe, and takes the mean of the labels, as baselines; fuses the heads by their mean, and by a ridge that is
fitted to dev as in the published system; makes a bundle of the latter; and compares all of them with the labels of the
test clips, which decide nothing before. If the list of `test` is missing, a labelled list of `eval` takes its place.

Interrupt it whenever you like: the same command continues, and skips what is done. Of the folder,
  results.json   is to be sent back: numbers with 95 % intervals, versions, the machine in words, fingerprints, seconds;
                 no audio, no prompts, no names of clips, people or folders
  results.md     has the same numbers as tables, which are printed too
  bundle/        is to be published: audiomos-cache score song.wav --bundle results/bundle
and the rest (cache/, runs/, predictions/, ..., and steps.json, which says what is done) may be deleted at the end.

Without the hub, give folders: ARGS="--audio-encoder ./muq --text-encoder ./roberta --muq-eval ./BUNDLE". A bundle names
the folders of its encoders: publish one that was made with those of the hub.
"""

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click
from official_split import Setup
from published import as_markdown, comparisons
from resumable_steps import STEPS, Facts, Steps
from ridge_probe import ridge_probe, train_mean

from audiomos_cache import Cache, Scorer, evaluate, extract, fuse, make_bundle, score_files, train_head
from audiomos_cache.artifacts import atomic_write, refuse_occupied
from audiomos_cache.cli import log_to_stderr
from audiomos_cache.cli.options import wrapped_error
from audiomos_cache.cli.progress_bar import progress, say
from audiomos_cache.dataset.clip import Clip
from audiomos_cache.devices import resolve_device
from audiomos_cache.errors import AudiomosError, DataError
from audiomos_cache.evaluation.predictions import Predictions, read_predictions, write_predictions
from audiomos_cache.folders import atomic_folder
from audiomos_cache.interrupts import interruptible, one_line
from audiomos_cache.locks import locked
from audiomos_cache.progress import Progress
from audiomos_cache.runs import predictions_path

DEMO = "demo"
PLAN, BEST = "ensemble8", "loss"
TA_OF_AUDIO = "ta_without_prompt"
MOST_FAILED = 0.1  # of the held-out clips: beyond it the dataset is damaged
RESULTS, TABLES, LOCK = "results.json", "results.md", ".lock"


def score_with_muq_eval(setup: Setup, clips: tuple[Clip, ...], update: Progress) -> Facts:
    """Score the held-out clips with MuQ-Eval-A1, whose TA head hears the audio alone."""
    scorer = Scorer(setup.muq_eval)
    if missing := {"mi", TA_OF_AUDIO} - (found := {target.name for target in scorer.targets}):
        raise DataError(
            f"--muq-eval {setup.muq_eval}: predicts {', '.join(sorted(found))}, expected {', '.join(sorted(missing))} "
            "too; give what `audiomos-cache bundle --published muq-eval-a1 --weights FOLDER --out BUNDLE` makes"
        )
    lines, files = setup.out / "muq-eval-a1.jsonl", [str(clip.path) for clip in clips]
    outcome = score_files(files, bundle=scorer, out=lines, progress=update)
    if len(outcome.failed) > MOST_FAILED * len(clips):
        raise DataError(f"{outcome.failures()}; correct these files, and run it again")
    if outcome.failed:  # a silent clip, which gets no score
        say(f"{outcome.failures()}; left out of the numbers of muq-eval-a1")
    rows = {row["id"]: row for row in map(json.loads, lines.read_text(encoding="utf-8").splitlines())}
    scored = {clip: rows[clip.id] for clip in clips if rows[clip.id]["error"] is None}
    ids, mi = [clip.id for clip in scored], [row["mi"] for row in scored.values()]
    ta = [row["scores"][TA_OF_AUDIO] for row in scored.values()]
    write_predictions(setup.predictions("muq-eval-a1"), Predictions.build(ids, mi, ta))
    labels = "".join(f"{clip.id}.wav,{clip.mi},{clip.ta}\n" for clip in scored)
    atomic_write(setup.labels_of_scored, labels.encode())
    (entry,) = scorer.entries.values()
    return {
        "bundle": {key: entry[key] for key in ("digest", "windows", "licence")},  # not its name, which may be a folder
        "with_warnings": sum(bool(row["warnings"]) for row in scored.values()),
        "without_score": len(outcome.failed),
    }


def extract_features(setup: Setup, update: Progress) -> Facts:
    """Extract all splits."""
    extract(
        setup.data, setup.out / "cache", split=setup.splits, audio_encoder=setup.audio_encoder,
        text_encoder=setup.text_encoder, pad_to=setup.pad_to, progress=update,
    )  # fmt: skip
    cache = Cache(setup.out / "cache")
    provenance = cache.reader("train").provenance
    of = {name: provenance[name] for name in ("audio_encoder", "text_encoder")}
    return {
        "fingerprint": cache.fingerprint.digest,
        "fields": cache.fingerprint.fields,
        "revisions": {name: each["revision"] for name, each in of.items()},
        "precision": of["audio_encoder"].get("precision", "fp32"),
        "untrained": [name for name, each in of.items() if "notice" in each],
    }


def train_heads(setup: Setup, update: Progress) -> Facts:
    """Train the heads of the plan, which choose their checkpoints by dev."""
    trained = train_head(
        setup.out / "cache", plan=PLAN, out=setup.out / "runs", set=setup.overrides, progress=update,
        command="benchmarks/reproduce.py",
    )  # fmt: skip
    return {"runs": {run.folder.name: {"epochs": run.epochs} for run in trained.runs}}


def fit_baselines(setup: Setup) -> Facts:
    """Fit the baselines to train."""
    cache = Cache(setup.out / "cache")
    probed, chosen = ridge_probe(cache, setup.held_out)
    write_predictions(setup.predictions("ridge-probe"), probed)
    write_predictions(setup.predictions("train-mean"), train_mean(cache, setup.held_out))
    return chosen


def fuse_heads(setup: Setup) -> Facts:
    """Fuse the heads by their mean, and by the published system's ridge, fitted to dev."""
    common: Facts = {"best": BEST, "apply_split": setup.held_out, "overwrite": True}
    fuse(setup.out / "runs", out=setup.out / "fused-mean", method="mean", **common)
    ridge = fuse(
        setup.out / "runs", out=setup.out / "fused-ridge", method="ridge", labels=setup.labels("dev"), **common
    )
    return {"dev_out_of_fold": ridge.out_of_fold.to_json() if ridge.out_of_fold else None}


def bundle_heads(setup: Setup) -> Facts:
    """Make a bundle of the heads and the ridge: decided beforehand, as it is the published way."""
    made = make_bundle(setup.out / "runs", setup.out / "bundle", setup.out / "fused-ridge", overwrite=True)
    return {"digest": made.digest, "size_bytes": made.size_bytes, "fusion": "ridge"}


def compare_with_labels(setup: Setup, runs: Mapping[str, object], update: Progress) -> Facts:
    """Compare all predictions of the held-out clips with their labels: the sixteen numbers of each."""
    files = {name: setup.predictions(name) for name in ("muq-eval-a1", "train-mean", "ridge-probe")}
    files |= {name: predictions_path(setup.out / "runs" / name, setup.held_out, BEST) for name in runs}
    fused = {name: setup.out / name / f"fused.{setup.held_out}.jsonl" for name in ("fused-mean", "fused-ridge")}
    files |= fused
    for name in ("muq-eval-a1", *fused):
        predicted, twice = read_predictions(files[name]), f"{name}, MI as TA"
        files[twice] = setup.predictions(twice)
        write_predictions(files[twice], Predictions.build(predicted.ids, predicted.mi, predicted.mi))
    numbers = {}
    for done, (name, path) in enumerate(files.items(), start=1):
        labels = setup.labels_of_scored if name.startswith("muq-eval-a1") else setup.labels(setup.held_out)
        numbers[name] = evaluate(path, labels).to_dict()
        update("evaluate", done, len(files))
    return numbers


def reproduce(setup: Setup) -> Facts:
    """Do all steps that are not done, write the results, and return them."""
    clips, out = setup.clips(), setup.out
    steps = Steps(out, setup.made_with())
    with progress("clips") as update:
        scored = steps.run(
            "muq-eval-a1",
            setup.predictions("muq-eval-a1"),
            partial(score_with_muq_eval, setup, clips[setup.held_out], update),
        )
        cached = steps.run("extract", out / "cache", partial(extract_features, setup, update))
    with progress("epochs") as update:
        trained = steps.run("train", out / "runs", partial(train_heads, setup, update))
    probed = steps.run("baselines", setup.predictions("ridge-probe"), partial(fit_baselines, setup))
    fused = steps.run("fuse", out / "fused-ridge", partial(fuse_heads, setup))
    bundled = steps.run("bundle", out / "bundle", partial(bundle_heads, setup))
    with progress("files") as update:
        compare = partial(compare_with_labels, setup, trained["runs"], update)
        numbers = steps.run("evaluate", out / STEPS, compare)
    untrained = ["made labels"] * setup.made_labels + ["untrained encoders"] * bool(cached["untrained"])
    results = {
        "results_of": "audiomos_cache, benchmarks/reproduce.py",
        "format_version": 1,
        "notice": f"{', '.join(untrained)}: shows that it runs, nothing more" if untrained else None,
        "machine": steps.machine,
        "versions": steps.made_with["versions"],
        "data": setup.described(clips) | {"labels_xxh3_128": steps.made_with["labels"]},
        "cache": cached,
        "muq_eval_a1": scored,
        "bundle": bundled,
        "heads": {"plan": PLAN, "overrides": list(setup.overrides), "checkpoint": BEST, **trained},
        "ridge_probe": probed,
        "fused_ridge": fused,
        "seconds": steps.seconds,
        "system_truth": "the means of the labels of a system's clips",
        "numbers": numbers,
        "published": comparisons(numbers),
    }
    atomic_write(out / RESULTS, f"{json.dumps(results, indent=1, allow_nan=False)}\n".encode())
    atomic_write(out / TABLES, as_markdown(results).encode())
    return results


def made_setup(out: Path) -> Setup:
    """Make a small dataset, and a checkpoint in MuQ-Eval's layout, for a run of seconds."""
    from audiomos_cache import make_published_bundle
    from audiomos_cache.testing import make_dataset, make_muq_eval

    data, model = out / "data", out / "muq-eval-a1"
    if not data.exists():
        with atomic_folder(data, replace=False) as folder:
            make_dataset(folder, prompts=12, seconds=(1.0, 2.0))
    if not model.exists():
        with atomic_folder(out / "muq-eval-weights", replace=True) as folder:
            make_muq_eval(folder)
        make_published_bundle("muq-eval-a1", out / "muq-eval-weights", model)
    tiny = ("muq-tiny", "roberta-tiny", 2.0, ("training.max_epochs=2",))
    return Setup(data, out, str(model), *tiny, made_labels=True)


@click.command()
@click.option("--data", required=True, help=f"MusicEval-phase1, or {DEMO}: music made by code.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option("--muq-eval", default="muq-eval-a1", show_default=True, help="The bundle of MuQ-Eval-A1.")
@click.option("--audio-encoder", default="muq", show_default=True)
@click.option("--text-encoder", default="roberta", show_default=True)
def main(data: str, out: Path, muq_eval: str, audio_encoder: str, text_encoder: str) -> None:
    """Reproduce published figures on MusicEval; see the top of this file."""
    log_to_stderr(logging.INFO)
    with one_line():
        try:
            advice = "give another OUT="
            refuse_occupied(out, what="reproduction", marker=STEPS, overwrite=True, advice=advice)
            setup = Setup(Path(data), out, muq_eval, audio_encoder, text_encoder)
            if data != DEMO:
                setup.clips()  # before anything is written
            if not (out / STEPS).exists():
                atomic_write(out / STEPS, b"{}\n")
            if data != DEMO and resolve_device("auto") == "cpu":
                say("There is no GPU: the features take hours, and the heads days; it goes on, and can be interrupted.")
            with locked(out / LOCK, f"{out}: is being written"):
                reproduce(made_setup(out) if data == DEMO else setup)
        except AudiomosError as error:
            raise click.ClickException(wrapped_error(error)) from error
    click.echo((out / TABLES).read_text(encoding="utf-8"))
    click.echo(f"Please send back {out / RESULTS}, and publish {out / 'bundle'}.")


if __name__ == "__main__":
    with interruptible():
        main()
