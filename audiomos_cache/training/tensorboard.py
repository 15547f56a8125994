"""Writing the history of a training for TensorBoard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiomos_cache.errors import ConfigError


@contextmanager
def tensorboard_log(folder: Path | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that writes an epoch of a history for TensorBoard: each number under its name, `utt_mi/srcc`.

    Args:
        folder: the folder to write into; None: nothing is written.
    Raises:
        ConfigError: TensorBoard is not installed.
    """
    if folder is None:
        yield lambda _line: None
        return
    writer = summary_writer()(str(folder))

    def write(line: Mapping[str, Any]) -> None:
        for name, number in _numbers(line):
            writer.add_scalar(name, number, line["epoch"])
        writer.flush()

    try:
        yield write
    finally:
        writer.close()


def summary_writer() -> Callable[[str], Any]:
    """Return TensorBoard's class for writing.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            f"--tensorboard: TensorBoard is not installed ({error}); pip install 'audiomos-cache[tensorboard]'"
        ) from error
    return SummaryWriter


def _numbers(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of an epoch with their names; those that are not defined are left out."""
    for name in ("lr", "train_loss", "dev_loss"):
        yield name, line[name]
    for level, measures in line["dev"].items():
        if isinstance(measures, Mapping):
            yield from ((f"{level}/{name}", number) for name, number in measures.items() if number is not None)
