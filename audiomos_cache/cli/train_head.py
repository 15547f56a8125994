"""`audiomos-cache train-head`: train heads from a cache."""

from pathlib import Path
from typing import Any

import click

from audiomos_cache.cli.devices import DEVICES, resolve_device
from audiomos_cache.cli.progress import progress


@click.command("train-head")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("cache/default"), help="The cache folder.")
@click.option("--head", "heads", multiple=True, default=("transformer-dist",), metavar="PRESET|FILE.yaml",
              help="A preset of configs/, or a YAML file like them; repeat for several.")  # fmt: skip
@click.option("--seed", "seeds", multiple=True, type=click.IntRange(min=0), default=(1984,), help="Repeat for several.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs"), help="Where the run folders go.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key, such as temporal.layers=2."
)
@click.option(
    "--train-list", type=click.Path(path_type=Path), help="Train on these clips and labels instead of the train split."
)
@click.option(
    "--dev-list", type=click.Path(path_type=Path), help="Choose checkpoints on these instead of the dev split."
)
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to train.")
@click.option("--overwrite", is_flag=True, help="Replace runs of the same name.")
def train_head(
    cache: Path,
    heads: tuple[str, ...],
    seeds: tuple[int, ...],
    out: Path,
    overrides: tuple[str, ...],
    train_list: Path | None,
    dev_list: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """Train heads on cached features: one run folder for each head and seed.

    A run keeps three checkpoints (best dev loss, best system SRCC of MI, best combined), their predictions of
    every split in the cache, and its history. On a CPU the same seed gives the same files.

    \b
    Examples:
      audiomos-cache train-head --cache cache/musiceval --head transformer-dist --seed 1984 --seed 1990
      audiomos-cache train-head --cache cache/musiceval --head my-head.yaml --set training.lr=1e-4
    """
    from audiomos_cache.config import load_head_config
    from audiomos_cache.training.train_head import HeadJob, train_heads

    configs = [load_head_config(head, overrides) for head in heads]
    jobs = [HeadJob(f"{name}-seed{seed}", config, seed) for name, config in configs for seed in seeds]

    with progress("epochs") as update:

        def report(job: HeadJob, line: dict[str, Any], last: bool) -> None:
            done = line["epoch"]
            total = done if last else job.config.training.max_epochs
            update(job.name, done, total, f"dev loss {line['dev_loss']:.4f}")

        results = train_heads(
            jobs, cache, out, train_list=train_list, dev_list=dev_list, overwrite=overwrite,
            device=resolve_device(device), on_epoch=report,
        )  # fmt: skip
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Dev SRCC of each run's combined checkpoint, which was chosen on these clips")
    for column in ("run", "epochs", "MI utt", "TA utt", "MI sys", "TA sys"):
        table.add_column(column, justify="left" if column == "run" else "right")
    for result in results:
        scores = result.dev["combined"].to_json()
        numbers = [_shown(scores[level]["srcc"]) for level in ("utt_mi", "utt_ta", "sys_mi", "sys_ta")]  # type: ignore[index]
        table.add_row(result.folder.name, str(result.epochs), *numbers)
    Console().print(table)


def _shown(number: float | None) -> str:
    return "n/a" if number is None else f"{number:.3f}"
