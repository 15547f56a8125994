"""`audiomos-cache demo`: all commands on made-up music."""

import shlex
import shutil
import sys
from pathlib import Path

import click

from audiomos_cache.artifacts import refuse_occupied
from audiomos_cache.cli.options import FILE, Command, echo, wrapped

PROMPTS, SECONDS = 48, (3.0, 5.0)
NEW_WORDS, NEW_SEED = ("slow", "happy", "low", "guitar", "without"), 2025
_MADE = ("data", "cache", "runs", "fused", "model", "new")
_MARKER = ".audiomos-demo"

_NEXT = """
Files
  {out}/data              the made-up music, in the MusicEval layout
  {out}/cache             the features, a file per split
  {out}/runs              a folder per head: config, checkpoints, history
  {out}/fused/answer.txt  the fused MI and TA of every clip of the eval list
  {out}/model             the heads and their fusion, with a card: README.md
  {out}/new               two new clips of one prompt, clean and damaged

Next, on real data: MusicEval-phase1, and weights of MuQ and RoBERTa from the hub
  audiomos-cache extract --data MusicEval-phase1 --cache cache/musiceval
  audiomos-cache train-head --cache cache/musiceval --seed 1984 --seed 1990
  audiomos-cache fuse runs --labels MusicEval-phase1/sets/dev_mos_list.txt --out fused
  audiomos-cache bundle runs --fusion fused --out model
  audiomos-cache score song.wav --prompt "slow, sad piano" --bundle model
"""


@click.command(cls=Command)
@click.option("--out", type=FILE, default=Path("demo"), help="Make this folder.")
@click.option("--overwrite", is_flag=True, help="Delete the earlier demo in the folder first.")
@click.pass_context
def demo(context: click.Context, out: Path, overwrite: bool) -> None:
    """Make music by code, then extract, train heads, fuse, evaluate, bundle, score: all commands in minutes.

    The labels are made by the same code, and the encoders are untrained: it shows that everything works, not
    how good it is.

    \b
    Example:
      audiomos-cache demo --out demo
    """
    from audiomos_cache.testing.music import SYSTEMS, make_dataset

    _make_room(out, overwrite)
    data, sets = out / "data", out / "data" / "sets"
    click.echo(f"Making {PROMPTS * len(SYSTEMS)} clips of music by code, with made-up labels, in {data}", err=True)
    make_dataset(data, prompts=PROMPTS, seconds=SECONDS)
    encoders = ["--audio-encoder", "muq-tiny", "--text-encoder", "roberta-tiny", "--pad-to", f"{SECONDS[1]:g}"]
    splits = ["--split", "train", "--split", "dev", "--split", "eval"]
    _run(context, "extract", "--data", data, "--cache", out / "cache", *splits, *encoders)
    heads = ["--head", "pooling-dist", "--head", "cross-attention-dist", "--seed", "1984", "--seed", "1990"]
    _run(context, "train-head", "--cache", out / "cache", *heads, "--out", out / "runs")
    runs = sorted((out / "runs").iterdir())
    labels = sets / "dev_mos_list.txt"
    ridge = ("--method", "ridge", "--labels", labels, "--apply-split", "eval")
    _run(context, "fuse", *runs, *ridge, "--out", out / "fused")
    _run(context, "evaluate", out / "fused" / "fused.eval.jsonl", "--labels", sets / "test_mos_list.txt")
    echo("\nThe labels above were made by the code that made the music, and the encoders are untrained:")
    echo("the table shows that the pipeline works, nothing more.")
    _run(context, "bundle", *runs, "--fusion", out / "fused", "--out", out / "model")
    prompt = _make_new_clips(out / "new")
    _run(context, "score", out / "new", "--prompt", prompt, "--bundle", out / "model")
    echo(_NEXT.format(out=out))


def _make_new_clips(folder: Path) -> str:
    """Write one prompt's music twice, clean and damaged; returns the prompt."""
    import soundfile

    from audiomos_cache.testing.music import SAMPLE_RATE_HZ, PromptWords, damage, render_prompt

    words = PromptWords(*NEW_WORDS)
    clean = render_prompt(words, SECONDS[1], NEW_SEED)
    folder.mkdir()
    for name, samples in (("clean", clean), ("damaged", damage(clean, 1.0, NEW_SEED))):
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    return words.text


def _make_room(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless a demo made it and the user said `--overwrite`; empty it."""
    refuse_occupied(out, what="demo", marker=_MARKER, overwrite=overwrite)
    for name in _MADE:
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).touch()


def _run(context: click.Context, name: str, *arguments: str | Path) -> None:
    """Show a command as a user would type it, and run it."""
    from audiomos_cache.cli import main

    words = [str(argument) for argument in arguments]
    click.secho(wrapped(f"\n$ audiomos-cache {shlex.join([name, *words])}", sys.stdout), bold=True)
    command = main.commands[name]
    with command.make_context(name, words, parent=context.parent) as inner:
        command.invoke(inner)
