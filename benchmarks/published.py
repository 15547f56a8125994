"""Published figures next to what `reproduce.py` measured, and its tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from audiomos_cache.progress import duration

LEVELS = {"utt": "clips", "sys": "systems"}
Row = dict[str, Any]


class Figure(NamedTuple):
    """A published number, and which of our rows it is compared with.

    `view` is `utt` (per clip) or `sys` (means of systems) and the labels' target, `utt_mi`; `measure` is a key there.
    """

    rows: tuple[str, ...]
    view: str
    measure: str
    value: float
    source: str


# Of 413 clips, the official test split of MusicEval, in both papers.
PUBLISHED_CLIPS = 413
_MUQ_EVAL = "Zhu & Li 2026 (arXiv 2603.22677), MuQ-Eval-A1: from its published scores of the 413 test clips"
# The abstract gives these of one model, trained on Gaussian-softened labels: our preset transformer-dist. The scores of
# its ensemble were not published, so our fusions are set beside the same figures.
_WINNER = "Ritter-Gutierrez et al. 2025 (arXiv 2507.09904), abstract: a single model, official test set, system level"
_OURS = ("transformer-dist-seed1984", "fused-mean", "fused-ridge")
FIGURES = (
    Figure(("muq-eval-a1",), "utt_mi", "srcc", 0.8089, _MUQ_EVAL),
    Figure(("muq-eval-a1",), "utt_mi", "lcc", 0.8085, _MUQ_EVAL),
    Figure(("muq-eval-a1",), "utt_mi", "mse", 0.2950, _MUQ_EVAL),
    Figure(("muq-eval-a1",), "utt_ta", "srcc", 0.5503, _MUQ_EVAL),
    Figure(("muq-eval-a1",), "utt_ta", "lcc", 0.5393, _MUQ_EVAL),
    Figure(("muq-eval-a1",), "utt_ta", "mse", 0.5664, _MUQ_EVAL),
    Figure(("muq-eval-a1, MI as TA",), "utt_ta", "srcc", 0.6047, _MUQ_EVAL),
    Figure(_OURS, "sys_mi", "srcc", 0.991, _WINNER),
    Figure(_OURS, "sys_ta", "srcc", 0.952, _WINNER),
)


def comparisons(numbers: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Set each published figure beside ours.

    Args:
        numbers: of each row what `Evaluation.to_dict` returns.
    Returns:
        For each figure and row: both numbers, our 95 % interval and whether the published one lies in it, and the
        difference, ours less the published. What is not defined is None.
    """
    found = []
    for figure in FIGURES:
        for row in figure.rows:
            view = numbers[row][figure.view]
            here, interval = view[figure.measure], view[f"{figure.measure}_ci"]
            inside = interval and interval[0] <= figure.value <= interval[1]
            found.append({
                "row": row, "view": figure.view, "measure": figure.measure, "published": figure.value, "here": here,
                "here_ci": interval, "difference": None if here is None else here - figure.value,
                "published_in_our_interval": inside, "published_clips": PUBLISHED_CLIPS,
                "our_clips": numbers[row]["n_clips"], "source": figure.source,
            })  # fmt: skip
    return found


def as_markdown(results: Mapping[str, Any]) -> str:
    """Return the tables of a results file, each headed by its notice, if it has one."""
    data, notice = results["data"], results["notice"]
    heading = f" ({notice})" if notice else ""
    clips, systems = data["clips"][data["held_out"]], data["systems"][data["held_out"]]
    compared = [
        [row["row"], _name(row["view"], row["measure"]), f"{row['published']:.4f}", _cell(row["here"], row["here_ci"]),
         "n/a" if row["difference"] is None else f"{row['difference']:+.4f}"]
        for row in results["published"]
    ]  # fmt: skip
    views = ("utt_mi", "utt_ta", "sys_mi", "sys_ta")
    scored = [
        [
            name,
            *(_cell(numbers[view]["srcc"], numbers[view]["srcc_ci"], decimals=3) for view in views),
            *(_cell(numbers[view]["mse"], None, decimals=3) for view in views[:2]),
        ]
        for name, numbers in results["numbers"].items()
    ]
    machine = results["machine"]
    took = ", ".join(f"{step} {duration(seconds)}" for step, seconds in results["seconds"].items())
    return "\n".join([
        f"# Split {data['held_out']}: {clips} clips of {systems} systems{heading}", "",
        f"## Beside published figures, which are of {PUBLISHED_CLIPS} clips{heading}", "",
        *_table(["scores", "number", "published", "here [95 %]", "difference"], compared), "",
        f"## SRCC [95 %] and MSE{heading}", "",
        *_table(["scores", *(_name(view, "") for view in views), "MI MSE", "TA MSE"], scored), "",
        f"{machine['gpu'] or machine['cpu']}, PyTorch {machine['torch']}: {took}.",
        "Heads, fusions and probe were fitted to train and dev; nothing was chosen by the test clips.", "",
    ])  # fmt: skip


def _name(view: str, measure: str) -> str:
    level, target = view.split("_")
    return f"{target.upper()} {f'{measure.upper()}, ' if measure else ''}{LEVELS[level]}"


def _cell(number: float | None, interval: Sequence[float] | None, decimals: int = 4) -> str:
    if number is None:
        return "n/a"
    bounds = ", ".join(f"{bound:.{decimals - 1}f}" for bound in interval or ())
    return f"{number:.{decimals}f}" + (f" [{bounds}]" if bounds else "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table whose columns are aligned in a terminal, too."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (cell.rjust(width) if column else cell.ljust(width)
                  for column, (cell, width) in enumerate(zip(cells, widths, strict=True)))  # fmt: skip
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if not column else f"{'-' * (width - 1)}:" for column, width in enumerate(widths)]
    return [line(header), line(rule), *map(line, rows)]
