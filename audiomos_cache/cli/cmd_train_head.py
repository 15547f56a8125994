"""`audiomos-cache train-head`: train heads from a cache."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from audiomos_cache.cli.progress import progress
from audiomos_cache.devices import DEVICES, resolve_device

if TYPE_CHECKING:
    from audiomos_cache.evaluation.metrics import Scores
    from audiomos_cache.training.results import HeadResult


class _TrainHead(click.Command):
    """Ends its help with the presets and the keys, which are looked up only then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from audiomos_cache.heads.presets import plan_names, preset_names
        from audiomos_cache.heads.settable import settable_keys

        def of(kinds: Sequence[str]) -> str:
            return f"  of {', '.join(kinds)}" if kinds else ""

        super().format_epilog(ctx, formatter)
        with formatter.section("Presets for --head"):
            formatter.write_text(", ".join(preset_names()))
        with formatter.section("Plans for --plan"):
            formatter.write_text(", ".join(plan_names()))
        with formatter.section("Keys for --set, and what they are where a preset does not say"):
            formatter.write_dl(
                [
                    (each.key, f"{each.type}  [default: {each.default}]{of(each.kinds)}  {each.description}".rstrip())
                    for each in settable_keys()
                ]
            )


@click.command("train-head", cls=_TrainHead)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache/default"), help="The cache folder.")
@click.option("--head", "heads", multiple=True, default=("transformer-dist",), metavar="PRESET|FILE.yaml",
              help="A preset of configs/, or a YAML file like them; repeat for several.")  # fmt: skip
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=click.IntRange(0, 2**63 - 1),
    default=(1984,),
    metavar="N",
    help="Repeat for several.",
)
@click.option(
    "--plan",
    metavar="PLAN|FILE.yaml",
    help="Train the heads and seeds that a plan lists, instead of --head and --seed; finished runs are skipped.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where the run folders go.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key, such as training.lr=1e-4; see below.",
)
@click.option("--max-epochs", type=click.IntRange(1), metavar="N", help="Short for --set training.max_epochs=N.")
@click.option(
    "--train-list", type=click.Path(path_type=Path), help="Train on these clips and labels instead of the train split."
)
@click.option(
    "--dev-list", type=click.Path(path_type=Path), help="Choose checkpoints on these instead of the dev split."
)
@click.option(
    "--rater-list",
    "rater_lists",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="LIST",
    help="What each listener said of each clip (name.wav,rater,MI,TA), for heads with output.loss=raters; repeat "
    "for several lists.",
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to train.")
@click.option(
    "--preload",
    type=click.Choice(["auto", "ram", "cuda", "none"]),
    default="auto",
    help="Where the features are held: in RAM, on the GPU (cuda), or not at all (none: read again for each batch). "
    "auto: on the GPU, or else in RAM, if they take less than half of what is free. On a CPU the results are the same.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="Of matrix products; weights, softmax and losses are float32 in both.  [default: bf16 on a GPU that has it, "
    "fp32 elsewhere]",
)
@click.option(
    "--compile",
    "compiling",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Compile the heads, once for all heads and seeds of a plan. auto: on a GPU, where the planned epochs repay "
    "what that takes.",
)
@click.option("--profile", "profiled", is_flag=True, help="Print where the time went: seconds of each stage.")
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Write the history for TensorBoard too, into the run's tensorboard/; while it is trained, tensorboard "
    "--logdir OUT shows it already.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace runs of the same name (of a plan's: those that differ), and begin anew where another training was "
    "interrupted.",
)
@click.pass_context
def train_head(
    context: click.Context,
    cache: Path,
    heads: tuple[str, ...],
    seeds: tuple[int, ...],
    plan: str | None,
    out: Path,
    overrides: tuple[str, ...],
    max_epochs: int | None,
    train_list: Path | None,
    dev_list: Path | None,
    rater_lists: tuple[Path, ...],
    device: str,
    preload: Literal["auto", "ram", "cuda", "none"],
    precision: Literal["fp32", "bf16"] | None,
    compiling: Literal["auto", "on", "off"],
    profiled: bool,
    tensorboard: bool,
    overwrite: bool,
) -> None:
    """Train heads on cached features: one run folder for each head and seed.

    A run keeps three checkpoints (best dev loss, best system SRCC of MI, best combined), their predictions of
    every split in the cache, and its history. On a CPU the same seed gives the same files. After an interrupt
    the same command goes on where it was. Several processes may train one plan: each takes the runs that no other
    has taken.

    \b
    Examples:
      audiomos-cache train-head --cache cache/musiceval --head transformer-dist --seed 1984 --seed 1990
      audiomos-cache train-head --cache cache/musiceval --head my-head.yaml --set training.lr=1e-4
      audiomos-cache train-head --cache cache/musiceval --plan ensemble8
    """
    from audiomos_cache.heads.presets import load_head_config
    from audiomos_cache.profiling import Profile
    from audiomos_cache.training.data import Lists
    from audiomos_cache.training.jobs import HeadJob, load_plan
    from audiomos_cache.training.train_head import DivergedRunsError, train_heads

    if max_epochs:
        overrides = (*overrides, f"training.max_epochs={max_epochs}")
    if plan:
        if any(context.get_parameter_source(name) != ParameterSource.DEFAULT for name in ("heads", "seeds")):
            raise click.UsageError("--plan lists heads and seeds itself; leave out --head and --seed")
        jobs = load_plan(plan, overrides)
    else:
        configs = [load_head_config(head, overrides) for head in heads]
        jobs = [HeadJob(f"{name}-seed{seed}", config, seed) for name, config in configs for seed in seeds]

    profile = Profile(on=profiled)
    with progress("epochs") as update:

        def report(job: HeadJob, line: Mapping[str, Any], last: bool) -> None:
            done = line["epoch"]
            total = done if last else job.config.training.max_epochs
            update(job.name, done, total, f"dev loss {line['dev_loss']:.4f}")

        try:
            results = train_heads(
                jobs, cache, out, lists=Lists(train_list, dev_list, rater_lists), overwrite=overwrite,
                skip_finished=plan is not None, device=resolve_device(device), preload=preload, precision=precision,
                compiling=compiling, tensorboard=tensorboard, profile=profile, on_epoch=report,
            )  # fmt: skip
        except DivergedRunsError as error:
            _print_table(error.results, None)
            raise
    _print_table(results, cache if dev_list is None else None)
    if profiled:
        click.echo("\n".join(profile.lines()), err=True)


def _print_table(results: "Sequence[HeadResult]", cache: Path | None) -> None:
    """Print what came of the runs; with a cache, several of them are compared with the mean of their predictions."""
    from rich.console import Console

    from audiomos_cache.cli.tables import runs_table

    if results:
        mean = _mean_of_runs([result.folder for result in results], cache) if cache and len(results) > 1 else None
        Console().print(runs_table(results, mean))


def _mean_of_runs(runs: Sequence[Path], cache: Path) -> "Scores":
    """Compare the mean of the runs' best-loss predictions with the labels of the cache's dev split."""
    from audiomos_cache.evaluation.metrics import evaluate
    from audiomos_cache.evaluation.predictions import read_predictions
    from audiomos_cache.fusion.averages import MeanFusion
    from audiomos_cache.runs import predictions_path
    from audiomos_cache.training.data import ClipSet

    members = [read_predictions(predictions_path(run, "dev", "loss")) for run in runs]
    mean = MeanFusion([str(run) for run in runs]).apply(members)
    return evaluate(mean, ClipSet.of_split(cache, "dev").labels)
