"""`audiomos-cache score`: MI and TA of new music, by a bundle."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from audiomos_cache.cli.progress import progress
from audiomos_cache.devices import DEVICES, resolve_device
from audiomos_cache.errors import DataError, OutputError, first_five
from audiomos_cache.progress import Progress

if TYPE_CHECKING:
    from audiomos_cache.scoring.results import Item
    from audiomos_cache.scoring.scorer import Scorer


_FILE = click.Path(path_type=Path)


@click.command
@click.argument("audio", metavar="[AUDIO...]", nargs=-1, type=_FILE)
@click.option(
    "--bundle", required=True, metavar="DIR|REPO", help="The model: a folder, or an id on the Hugging Face hub."
)
@click.option("--revision", metavar="REV", help="Pin a hub revision of the bundle.")
@click.option("--prompt", metavar="TEXT", help="What all of AUDIO was made from.  [default: none, for MI alone]")
@click.option("--manifest", metavar="FILE", type=_FILE, help="A .csv or .jsonl file with path,prompt and maybe id.")
@click.option(
    "--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Where to write.  [default: stdout]"
)
@click.option("--overwrite", is_flag=True, help="Start --out anew, if it holds scores.")
@click.option("--audio-encoder", metavar="DIR|REPO", help="Where its weights are, if not where the bundle says.")
@click.option("--text-encoder", metavar="DIR|REPO", help="Likewise.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", help="Where to compute.")
@click.option(
    "--precision",
    type=click.Choice(("fp16", "bf16", "fp32")),
    help="What to compute in.  [default: fp16 on CUDA for float16 features, else fp32]",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Clips encoded at once.  [default: 4, on CUDA as memory allows]"
)
def score(
    audio: tuple[Path, ...],
    bundle: str,
    revision: str | None,
    prompt: str | None,
    manifest: Path | None,
    out: Path | None,
    overwrite: bool,
    device: str,
    **options: Any,
) -> None:
    """Score music: how good it is (MI) and how well it fits its prompt (TA), from 1 to 5, as listeners would.

    AUDIO are wav, flac, ogg and mp3 files, and folders of them, which share one --prompt. Clips with prompts of their
    own come in a --manifest, whose paths are relative to it. It may name files elsewhere by absolute paths, if you give
    them, or their folder, as AUDIO.

    Each clip gives a line of JSON with its id, path, mi and ta, and intervals that hold the listeners' mean for 80 % of
    clips. A clip that cannot be scored gives a line with an error; the others are scored, and the exit code is 1.

    An id is what a manifest's row says, or else the file's name, of a folder's files the path there: song of song.wav,
    song.mp3 of song.mp3. (extract's ids of manifests without them are song for both.)

    Interrupt it whenever you like: with --out, run it again, and it adds what is missing behind the lines that are
    there, by id.

    \b
    Examples:
      audiomos-cache score song.wav --prompt "slow piano, melancholic" --bundle model
      audiomos-cache score --manifest generated.csv --bundle model --out scores.jsonl
    """
    _check_usage(audio, prompt, manifest, out, overwrite)
    from audiomos_cache.scoring.inputs import items_of_manifest, items_of_paths

    items = items_of_manifest(manifest, audio) if manifest else items_of_paths(audio, prompt)
    tally = _Tally(len(items))
    load = partial(_load, bundle, revision, device, options)
    if out is None:
        _print_scores(items, load(), tally)
    else:
        _score_to(out, overwrite, items, partial(_digest, bundle, revision), load, tally)
    click.echo(tally.summary(), err=True)
    tally.raise_if_failed("run it again, which tries them alone" if out else "score them again")


def _print_scores(items: "Sequence[Item]", scorer: "Scorer", tally: "_Tally") -> None:
    print_line = partial(_print_line, sys.stdout)  # as it is before a progress bar takes its place
    if sys.stdout.isatty():  # the lines show the progress, and a bar would be in their way
        _score(items, scorer, print_line, tally, nullcontext(_show_nothing))
    else:
        _score(items, scorer, print_line, tally, progress("clips"))


def _print_line(stdout: TextIO, line: bytes) -> None:
    try:
        click.echo(line, file=stdout, nl=False)
    except BrokenPipeError:
        raise  # its reader has what it wanted
    except OSError as error:
        raise OutputError(
            f"stdout: cannot be written: {error.strerror or error}; make room there, or give --out, a file that the "
            "command can go on with"
        ) from error


def _score_to(
    out: Path,
    overwrite: bool,
    items: "Sequence[Item]",
    digest: Callable[[], str],
    load: "Callable[[], Scorer]",
    tally: "_Tally",
) -> None:
    """Score what a file does not hold yet. Where it holds everything, no encoder is loaded."""
    from audiomos_cache.scoring.results import score_file

    with score_file(out, overwrite=overwrite) as file:
        left = items
        if file.holds_lines():
            done = file.resume(items, digest())
            for row in done.values():
                tally.add(row)
            left = [item for item in items if item.id not in done]
            click.echo(f"{len(done)} of {len(items)} done before", err=True)
        if left:
            _score(left, load(), file.write, tally, progress("clips"))


def _score(
    items: "Sequence[Item]",
    scorer: "Scorer",
    write: Callable[[bytes], None],
    tally: "_Tally",
    shown: AbstractContextManager[Progress],
) -> None:
    from audiomos_cache.scoring.results import to_line

    with shown as update:
        for done, made in enumerate(scorer.score_items(items), 1):
            write(to_line(made, scorer.digest))
            tally.add(made.to_json())
            update("score", done, len(items), f"{len(tally.failed)} failed" if tally.failed else "")


def _show_nothing(what: str, done: int, total: int, note: str = "") -> None:
    pass


def _digest(bundle: str, revision: str | None) -> str:
    from audiomos_cache.bundle.load import load_bundle

    return load_bundle(bundle, revision).digest


def _load(bundle: str, revision: str | None, device: str, options: Mapping[str, Any]) -> "Scorer":
    from audiomos_cache.scoring.scorer import Scorer

    scorer = Scorer.from_bundle(bundle, revision=revision, device=resolve_device(device), **options)
    if scorer.untrained:
        from audiomos_cache.encoders.lookup import UNTRAINED_NOTICE

        for name in scorer.untrained:
            click.echo(f"{name} is {UNTRAINED_NOTICE}", err=True)
    return scorer


def _check_usage(
    audio: Sequence[Path], prompt: str | None, manifest: Path | None, out: Path | None, overwrite: bool
) -> None:
    if not audio and manifest is None:
        raise click.UsageError("nothing to score; give AUDIO files or folders, or --manifest")
    if manifest and prompt is not None:
        raise click.UsageError("--prompt goes without --manifest, whose rows have their own")
    if manifest and (relative := [str(path) for path in audio if not path.is_absolute()]):
        raise click.UsageError(
            f"{relative[0]!r}: beside --manifest, AUDIO says which absolute paths its rows may name; give it absolute"
        )
    if manifest and out and out.resolve() == manifest.resolve():
        raise click.UsageError("--out is the manifest; give another one")
    if overwrite and out is None:
        raise click.UsageError("--overwrite goes with --out")


@dataclass
class _Tally:
    """What came of the clips, in all.

    Attributes:
        total: how many are wanted.
        scores: of each target, of the clips that have one.
        warned: how many have warnings.
        failed: the id of each that could not be scored, and why.
    """

    total: int
    scores: dict[str, list[float]] = field(default_factory=lambda: {"mi": [], "ta": []})
    warned: int = 0
    failed: list[str] = field(default_factory=list)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count what a line says."""
        if row["error"] is not None:
            self.failed.append(f"{row['id']}: {' '.join(row['error'].split())}")
        for target, scores in self.scores.items():
            if row[target] is not None:
                scores.append(row[target])
        self.warned += bool(row["warnings"])

    def summary(self) -> str:
        """Return the line for the end."""
        scored = len(self.scores["mi"])
        means = []
        for target, scores in self.scores.items():
            mean = f"{sum(scores) / len(scores):.3f}" if scores else "n/a"
            means.append(f"{target.upper()} {mean}" + (f" (of {len(scores)})" if 0 < len(scores) < scored else ""))
        warned = f", {self.warned} with warnings" if self.warned else ""
        return f"{scored} of {self.total} clips scored, {len(self.failed)} failed{warned}; mean {', '.join(means)}"

    def raise_if_failed(self, advice: str) -> None:
        """End the command with our error where a clip could not be scored."""
        if self.failed:
            from audiomos_cache.dataset.clip import printable

            told = printable(first_five(self.failed))  # file names may hold anything
            raise DataError(
                f"{len(self.failed)} of {self.total} clips could not be scored: {told}; mend them and {advice}"
            )
