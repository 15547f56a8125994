"""Several GPUs of one machine: a process for each, with a shard of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

import click

SECONDS_BETWEEN_LOOKS = 0.1


def visible_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES says, or would say, of the GPUs that PyTorch sees."""
    import torch

    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(index) for index in range(torch.cuda.device_count())]


def run_on_gpus(arguments: Sequence[str], gpus: Sequence[str]) -> None:
    """Run `audiomos-cache` once for each GPU, with `--shard I/N` added, until all are done.

    An interrupt, or the failure of one, interrupts them all: each keeps what it has done.

    Args:
        arguments: of the command line, the command's name first.
        gpus: as CUDA_VISIBLE_DEVICES names them.
    Raises:
        click.ClickException: one of them failed; it has said why. KeyboardInterrupt: one was interrupted.
    """
    processes = []
    try:
        for index, gpu in enumerate(gpus, 1):
            processes.append(_start([*arguments, "--shard", f"{index}/{len(gpus)}"], gpu))
        codes = _wait(processes)
    finally:
        _interrupt(processes)
    if any(code == 130 for code in codes):
        raise KeyboardInterrupt
    failed = [gpu for gpu, code in zip(gpus, codes, strict=True) if code]
    if failed:
        raise click.ClickException(f"failed on GPU {', '.join(failed)}, see above; run it again, it goes on")


def _start(arguments: Sequence[str], gpu: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "audiomos_cache", *arguments],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": gpu},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt comes from us, once
    )
    assert process.stdout
    assert process.stderr
    for lines, to_stderr in ((process.stdout, False), (process.stderr, True)):
        threading.Thread(target=_pass_on, args=(lines, gpu, to_stderr), daemon=True).start()
    return process


def _pass_on(lines: IO[str], gpu: str, to_stderr: bool) -> None:
    for line in lines:
        click.echo(f"GPU {gpu}: {line}", nl=False, err=to_stderr)


def _wait(processes: "Sequence[subprocess.Popen[str]]") -> list[int]:
    """Wait for all; once one has failed, interrupt the others."""
    while any(process.poll() is None for process in processes):
        if any(process.returncode for process in processes):
            _interrupt(processes)
        threading.Event().wait(SECONDS_BETWEEN_LOOKS)
    return [process.returncode for process in processes]


def _interrupt(processes: "Sequence[subprocess.Popen[str]]") -> None:
    """Interrupt those that run, and wait for them to keep what they have done."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        process.wait()
