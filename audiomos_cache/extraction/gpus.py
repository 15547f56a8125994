"""Extraction on several GPUs of one machine: a process for each, with a shard of its own."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from audiomos_cache.cache.paths import all_names, split_files
from audiomos_cache.cache.publish import done_clips, split_and_parts
from audiomos_cache.encoders.lookup import loader_of
from audiomos_cache.errors import AudiomosError
from audiomos_cache.extraction.summary import SplitSummary
from audiomos_cache.interrupts import EXIT_CODES, SIGNALS
from audiomos_cache.progress import Notify
from audiomos_cache.registry import imported, is_passed_on

log = logging.getLogger(__name__)

POLL_S = 0.1
SHARD_BATCH_SIZE = 32  # clips, if none is given: all GPUs must cut the same batches, which they divide among them


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that PyTorch uses, as CUDA_VISIBLE_DEVICES has or would have them."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(index) for index in range(torch.cuda.device_count())]


def know_encoders(audio: str, text: str) -> bool:
    """Return whether other processes know encoders by their names: those built in, and those that `--import` loaded."""
    loaders = [(kind, loader_of(kind, name)) for kind, name in (("audio_encoder", audio), ("text_encoder", text))]
    here = [f"{kind} {name}" for kind, name in loaders if not is_passed_on(kind, name)]
    if here:
        log.warning(
            "extracts on one GPU: %s was registered in this process, and is not known to one for each GPU; put it into "
            "a file, and give that to --import before the command, or to audiomos_cache.registry.import_parts",
            ", ".join(here),
        )
    return not here


def extract_on_gpus(
    cache: Path, arguments: Mapping[str, Any], gpus: Sequence[str], notify: Notify, *, profiled: bool
) -> dict[str, SplitSummary]:
    """Extract with a process for each GPU, and count what all of them have done.

    Args:
        cache: the cache folder.
        arguments: of the command, by its options; those of a list are repeated, None is none. "split" lists all splits.
        gpus: as CUDA_VISIBLE_DEVICES names them.
        notify: called with each line that they print, after the GPU's name.
        profiled: each prints where its time went.
    Returns:
        What was done of each split.
    Raises:
        AudiomosError, KeyboardInterrupt: see `run_on_gpus`.
    """

    def done() -> dict[str, int]:
        names = all_names(cache)
        return {
            name: len(done_clips(split_and_parts(cache, name))) if name in names else 0 for name in arguments["split"]
        }

    before = done()
    words = ["--profile", "extract"] if profiled else ["extract"]
    for name, value in arguments.items():
        for each in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{name}", str(each)]
    run_on_gpus(words, gpus, notify)
    summaries = {}
    for name, count in done().items():
        skipped = {pair for file in split_and_parts(cache, name) for pair in file.header.skipped}
        summaries[name] = SplitSummary(
            name, count, encoded=count - before[name], skipped=sorted(skipped), files=split_files(cache, name)
        )
    return summaries


def run_on_gpus(arguments: Sequence[str], gpus: Sequence[str], notify: Notify) -> None:
    """Run `audiomos-cache` once for each GPU, with `--shard I/N` added, until all are done.

    An interrupt, or the failure of one, interrupts them all: each keeps what it has done.

    Args:
        arguments: of the command line, the command's name first.
        gpus: as CUDA_VISIBLE_DEVICES names them.
        notify: called with each line that they print, after the GPU's name.
    Raises:
        AudiomosError: one of them failed; its lines contain the reason. KeyboardInterrupt: one was interrupted.
    """
    processes: list[_Process] = []
    try:
        for index, gpu in enumerate(gpus, 1):
            processes.append(_Process([*arguments, "--shard", f"{index}/{len(gpus)}"], gpu, notify))
        failed = _wait(processes)
    finally:
        for process in processes:
            process.interrupt()
        for process in processes:
            process.end()
    if any(process.was_stopped for process in failed):
        raise KeyboardInterrupt
    if failed:
        names = ", ".join(process.gpu for process in failed)
        raise AudiomosError(f"failed on GPU {names}, see above; run it again to continue")


class _Process:
    """A process that sees one GPU; its lines are passed on, the GPU's name first."""

    def __init__(self, arguments: Sequence[str], gpu: str, notify: Notify) -> None:
        self.gpu, self._notify = gpu, notify
        imports = [word for each in imported() for word in ("--import", each)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "audiomos_cache", *imports, *arguments],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": gpu},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that it is interrupted by `interrupt` alone, and once
        )
        streams = (self._process.stdout, self._process.stderr)
        self._threads = [threading.Thread(target=self._pass_on, args=(stream,), daemon=True) for stream in streams]
        for thread in self._threads:
            thread.start()

    @property
    def code(self) -> int | None:
        """The exit code; None: it is running."""
        return self._process.poll()

    @property
    def was_stopped(self) -> bool:
        """Whether a signal has ended it."""
        return self.code in EXIT_CODES or -(self.code or 0) in SIGNALS  # the latter before it could handle any

    def interrupt(self) -> None:
        """Interrupt it, if it is running."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)  # a SIGINT may be ignored, as where this one runs behind a shell

    def end(self) -> None:
        """Wait for it, and for its last lines."""
        self._process.wait()
        for thread in self._threads:
            thread.join()

    def _pass_on(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._notify(f"GPU {self.gpu}: {line.rstrip()}")


def _wait(processes: Sequence[_Process]) -> list[_Process]:
    """Wait until all are done or one has failed; return those that have."""
    while any(process.code is None for process in processes) and not any(process.code for process in processes):
        time.sleep(POLL_S)
    return [process for process in processes if process.code]
