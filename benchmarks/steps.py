"""One training step of a preset: how long it takes, the simple way and ours, and whether its numbers are right.

Their numbers are compared, too: gradients in bf16 with those in fp32, steps as a CUDA graph with steps that are not.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from baseline import baseline_step
from limits import copy_bytes_per_s, matmul_flops
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config
from audiomos_cache.training.batches import FeatureBatches
from audiomos_cache.training.data import ClipSet
from audiomos_cache.training.execution import Execution, Precision
from audiomos_cache.training.trainer import LabelledBatches, Trainer

SURE = 0.99  # cosine of the gradients in two precisions, at least
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
NEAR = 0.01  # relative difference of losses, at most


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """Seconds of one training step of a preset.

    Attributes:
        baseline: as one would write it down first, in fp32.
        ours: a step of an epoch, gathered and all, in `precision`, not compiled.
        compiled: the same, compiled; `compiling` are the seconds that this took.
        limit: what its arithmetic, `flops`, takes at the speed of the largest matrix product in that precision.
        gather: what putting its features together takes; `copy` is what copying as many bytes takes.
        cosine: of the gradients of one batch in `precision` and in fp32; `loss_gap`: relative, likewise.
        graph_gap: relative, of the losses of steps as a CUDA graph and steps that are not.
    """

    preset: str
    precision: str
    baseline: float
    ours: float
    compiled: float | None
    compiling: float | None
    flops: float
    limit: float
    gather: float
    copy: float
    cosine: float
    loss_gap: float
    graph_gap: float | None

    @property
    def best(self) -> float:
        return min(self.ours, self.compiled or self.ours)

    @property
    def right(self) -> bool:
        return self.cosine > SURE and self.loss_gap < NEAR and (self.graph_gap or 0.0) < NEAR


def synchronized(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(action: Callable[[], object], device: torch.device, runs: int = 1) -> float:
    """Return the median of what an action takes."""
    taken = []
    for _ in range(runs):
        start = synchronized(device)
        action()
        taken.append(synchronized(device) - start)
    return statistics.median(taken)


def limits(device: torch.device) -> dict[str, float]:
    """Measure floating-point operations a second of a large matrix product, and bytes a second of a copy."""
    speeds = {name: matmul_flops(device, DTYPES[name]) for name in DTYPES}
    return speeds | {"copy": copy_bytes_per_s(device)}


def step_flops(config: HeadConfig, labelled: LabelledBatches) -> float:
    """Count the arithmetic of a step on the first batch: matrix products and attention, forward and backward."""
    reader = labelled.clips.first_reader
    device = labelled.features.device
    head = build_head(config, reader.audio_dim, reader.text_dim).to(device)
    indices = list(range(config.training.batch_size))
    batch = labelled.features.gather(indices)
    precise = Execution("bf16" if device.type == "cuda" else "fp32")
    with FlopCounterMode(display=False) as counter, precise.autocast(device):
        labelled.loss(head(*batch), indices).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def compare_precisions(config: HeadConfig, labelled: LabelledBatches, precision: Precision) -> tuple[float, float]:
    """Return the cosine of a batch's gradients in two precisions, and the relative difference of the losses."""
    reader = labelled.clips.first_reader
    device = labelled.features.device
    indices = list(range(config.training.batch_size))
    batch = labelled.features.gather(indices)
    found = []
    for each in ("fp32", precision):
        torch.manual_seed(0)
        head = build_head(still(config), reader.audio_dim, reader.text_dim).to(device).train()
        with Execution(each).autocast(device):
            loss = labelled.loss(head(*batch), indices)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.flatten() for p in head.parameters() if p.grad is not None]
        found.append((torch.cat(gradients), loss.item()))
    (a, loss_a), (b, loss_b) = found
    return torch.cosine_similarity(a, b, dim=0).item(), abs(loss_a - loss_b) / loss_a


def still(config: HeadConfig) -> HeadConfig:
    """Return a head without dropout."""
    return config.model_copy(update={"dropout": 0.0})


def trainer_of(config: HeadConfig, labelled: LabelledBatches, execution: Execution) -> Trainer:
    torch.manual_seed(0)
    reader = labelled.clips.first_reader
    head = build_head(config, reader.audio_dim, reader.text_dim).to(labelled.features.device)
    return Trainer(config, 0, head, labelled, execution)


def compare_graph(config: HeadConfig, labelled: LabelledBatches, precision: Precision) -> float:
    """Return the relative difference of an epoch's loss with steps as a CUDA graph and not, without dropout."""
    losses = [
        trainer_of(still(config), labelled, Execution(precision, cuda_graph=graph)).train_epoch(1)[1]
        for graph in (True, False)
    ]
    return abs(losses[0] - losses[1]) / losses[1]


def measure(
    preset: str,
    clips: ClipSet,
    features: FeatureBatches,
    precision: Precision,
    best: dict[str, float],
    *,
    compiled: bool,
) -> Steps:
    """Measure a preset."""
    config = load_head_config(preset)[1]
    device, size = features.device, config.training.batch_size
    labelled = LabelledBatches(features, objective_of(config))
    steps = -(-len(clips) // size)
    flops = step_flops(config, labelled)
    cosine, loss_gap = compare_precisions(config, labelled, precision)
    baseline = baseline_step(config, clips, device)
    batches = [list(range(start, start + size)) for start in range(0, min(len(clips), 6 * size), size)]
    for batch in batches[:2]:
        baseline(batch)
    baseline_s = statistics.median(seconds(lambda: baseline(batch), device) for batch in batches[1:])  # noqa: B023
    trainer = trainer_of(config, labelled, Execution(precision))
    trainer.train_epoch(1)
    ours = min(seconds(lambda: trainer.train_epoch(epoch), device) for epoch in (2, 3)) / steps  # noqa: B023
    compiled_s = compiling = None
    if compiled:
        trainer = trainer_of(config, labelled, Execution(precision, compiled=True))
        first = seconds(lambda: trainer.train_epoch(1), device)
        compiled_s = min(seconds(lambda: trainer.train_epoch(epoch), device) for epoch in (2, 3)) / steps  # noqa: B023
        compiling = first - compiled_s * steps
    row_bytes = clips.first_reader.audio_dim * 2
    moved = size * int(clips.first_reader.valid_frames.max()) * row_bytes
    gather = min(seconds(lambda: _gather_all(features, batches), device) for _ in range(3)) / len(batches)
    return Steps(
        preset, precision, baseline_s, ours, compiled_s, compiling, flops, flops / best[precision], gather,
        moved / best["copy"],
        cosine, loss_gap, compare_graph(config, labelled, precision) if features.on_gpu else None,
    )  # fmt: skip


def _gather_all(features: FeatureBatches, batches: list[list[int]]) -> None:
    for _ in features.stream(batches):
        pass


def as_table(found: Sequence[Steps], title: str) -> Table:
    """Lay out a line for each preset; "reading" is the speed of putting batches together as a share of copying."""
    table = Table(title=title, title_justify="left")
    for name in (
        "preset",
        "in",
        "baseline",
        "ours",
        "compiled",
        "x baseline",
        "limit",
        "of limit",
        "reading",
        "compile",
        "right",
    ):
        table.add_column(name, justify="left" if name in ("preset", "in") else "right", no_wrap=True)
    for each in found:
        table.add_row(
            each.preset, each.precision, ms(each.baseline), ms(each.ours), ms(each.compiled),
            f"{each.baseline / each.best:.1f}", ms(each.limit), f"{each.limit / each.best:.2f}",
            f"{each.copy / each.gather:.2f}",
            "" if each.compiling is None else f"{each.compiling:.1f} s", "yes" if each.right else "NO",
        )  # fmt: skip
    return table


def ms(value: float | None) -> str:
    return "" if value is None else f"{1000 * value:.1f} ms"
