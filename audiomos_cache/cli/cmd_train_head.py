"""`audiomos-cache train-head`: train heads from a cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audiomos_cache.cli.options import FILE, SEED, Command, advanced_option, announce, command_line, device_option
from audiomos_cache.cli.progress_bar import progress

if TYPE_CHECKING:
    from audiomos_cache.evaluation.metrics import Scores
    from audiomos_cache.training.finished_run import HeadResult


class _TrainHead(Command):
    """Ends its help with the presets and the keys, which are looked up only when the help is shown."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from audiomos_cache.heads.config import settable_keys
        from audiomos_cache.heads.presets import plan_names, preset_names

        def of(kinds: Sequence[str]) -> str:
            return f"  of {', '.join(kinds)}" if kinds else ""

        super().format_epilog(ctx, formatter)
        with formatter.section("Presets for --head"):
            formatter.write_text(", ".join(preset_names()))
        with formatter.section("Plans for --plan"):
            formatter.write_text(", ".join(plan_names()))
        with formatter.section("Keys for --set, with their values where a preset sets none"):
            formatter.write_dl(
                [
                    (each.key, f"{each.type}  [default: {each.default}]{of(each.kinds)}  {each.description}".rstrip())
                    for each in settable_keys()
                ]
            )


@click.command("train-head", cls=_TrainHead)
@click.option("--cache", type=FILE, default=Path("cache/default"), help="Read the features from this cache.")
@click.option(
    "--head",
    multiple=True,
    metavar="PRESET|FILE.yaml",
    help="Train this head: a preset, or a YAML file like those of configs/; repeat it for several.  "
    "[default: transformer-dist]",
)
@click.option(
    "--seed",
    multiple=True,
    type=SEED,
    metavar="N",
    help="Draw initial weights, dropout and data order by this seed; repeat it for several.  [default: 1984]",
)
@click.option(
    "--plan",
    metavar="PLAN|FILE.yaml",
    help="Train the heads and seeds that a plan lists, instead of --head and --seed.",
)
@click.option("--out", type=FILE, default=Path("runs"), help="Write the run folders to this folder.")
@click.option(
    "--set",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of every head, such as training.lr=1e-4; the keys are listed below.",
)
@click.option("--train-list", type=FILE, help="Train on these clips and labels instead of the train split.")
@click.option("--dev-list", type=FILE, help="Choose checkpoints on these clips and labels instead of the dev split.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace runs of the same name that differ or are damaged, and start again where another training was "
    "interrupted. An equal run is never trained again: delete its folder for that.",
)
@advanced_option(
    "--rater-list",
    "rater_lists",
    type=FILE,
    multiple=True,
    metavar="LIST",
    help="Read each listener's scores of each clip (name.wav,rater,MI,TA), for heads with output.loss=raters; repeat "
    "it for several lists.",
)
@advanced_option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    help="Compute matrix products in this precision; weights, softmax and losses are float32 in both.  "
    "[default: bf16 on a GPU that has it, fp32 elsewhere]",
)
@advanced_option(
    "--tensorboard",
    is_flag=True,
    help="Write the history for TensorBoard too, to tensorboard/ in the run; tensorboard --logdir OUT shows it while "
    "the head is trained.",
)
@device_option
@click.pass_context
def train_head(ctx: click.Context, /, **options: Any) -> None:
    """Train heads on cached features: one run folder for each head and seed.

    A run keeps three checkpoints (best dev loss, best system SRCC of MI, best combined), their predictions of
    every split in the cache, and its history. On a CPU the same seed with the same number of threads gives the same
    files. After an interrupt the same command resumes where it was: runs that are finished and equal are skipped, the
    interrupted one goes on. Several processes may give the same command: each takes runs that no other has taken.

    \b
    Examples:
      audiomos-cache train-head --cache cache/musiceval --seed 1984 --seed 1990
      audiomos-cache train-head --head my-head.yaml --set training.lr=1e-4
      audiomos-cache train-head --cache cache/musiceval --plan ensemble8
    """
    announce("reading the cache", [options["cache"]])
    from audiomos_cache import train_head as run
    from audiomos_cache.training.train_heads import DivergedRunsError

    options |= {name: list(options[name]) or None for name in ("head", "seed")}
    try:
        with progress("epochs") as update:
            result = run(**options, command=command_line(ctx), progress=update, profile=ctx.obj)
    except DivergedRunsError as error:
        _print_table(error.results, None)
        raise
    _print_table(result.runs, result.mean)


def _print_table(runs: "Sequence[HeadResult]", mean: "Scores | None") -> None:
    from rich.console import Console

    from audiomos_cache.cli.rendering import runs_table

    if runs:
        Console().print(runs_table(runs, mean))
