"""`score_files`: files to scores in one call, as `audiomos-cache score` does it."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from audiomos_cache.artifacts import atomic_write, refuse_occupied, refuse_suffix
from audiomos_cache.errors import ArgumentError, DataError, OutputError, OutputExistsError, paths_of, quoted, shown
from audiomos_cache.files import is_folder, real_path
from audiomos_cache.progress import Progress, counted
from audiomos_cache.published.catalogue import DEFAULT, find_revision
from audiomos_cache.scoring.asked import listed_bundles
from audiomos_cache.scoring.inputs import Item, items_of_manifest, items_of_paths
from audiomos_cache.scoring.lines import Entries, to_line
from audiomos_cache.scoring.results import Outcome
from audiomos_cache.scoring.resumable import ScoreFile, read_lines, score_file
from audiomos_cache.scoring.score_tables import TABLES, TableFormat
from audiomos_cache.scoring.windows import WindowMode

if TYPE_CHECKING:
    from audiomos_cache.scoring.asked import BundleLike
    from audiomos_cache.scoring.scorer import Scorer

log = logging.getLogger(__name__)

FORMATS = (".jsonl", *TABLES)


def score_files(
    audio: str | PathLike[str] | Iterable[str | PathLike[str]] = (),
    *,
    bundle: "BundleLike | Sequence[BundleLike] | Scorer | None" = None,
    out: str | PathLike[str] | Callable[[bytes], object],
    prompt: str | None = None,
    manifest: str | PathLike[str] | None = None,
    audio_root: str | PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_start: "Callable[[Sequence[Item], Scorer], object]" = lambda _items, _scorer: None,
    **options: Any,
) -> Outcome:
    r"""Score audio files, and write a line or a row for each. A file that cannot be scored gives one with an error.

    Args:
        audio: files of sound, and folders of them, which share one prompt.
        bundle: a folder, a hub repository or the name of a published bundle, `NAME@REVISION` to pin one; a loaded
            bundle; several of these; or a `Scorer` that is loaded already. None: `muq-eval-a1`.
        out: a file, whose suffix is the format. `.jsonl`: a line is written as soon as its clip is scored; if the file
            holds scores already, only what is missing is scored and appended. `.csv`, `.parquet`: a table, written at
            the end, a row for each clip of this call, in its order. What an interrupted run finished is kept in a
            hidden file in the same folder, and so are the scores of a table in which a clip has an error: the next call
            with at least the clips of the table resumes there, and replaces the table without `overwrite`. Of a clip
            that was scored before, a file of any format takes the columns that the manifest has now.
            Or a function that is given each line of JSON, bytes with their `\n`.
        prompt: the prompt that all of `audio` was made from; None: MI alone.
        manifest: in place of `audio`, a .csv, .tsv, .jsonl or .parquet file with `path,prompt` and optionally `id`.
        audio_root: the folder that the manifest's paths are relative to, and in which absolute ones must lie; None:
            that of the manifest.
        overwrite: whether all clips are scored again and `out` is replaced, if it holds scores.
        progress: called as `progress("score", done, total, note)`.
        on_start: called with what is to be scored and the scorer, when that is loaded.
        options: of the `Scorer`: audio_encoder, text_encoder, device, precision, batch_size, windows; none with a
            `Scorer` that is loaded already.
    Returns:
        How many were scored and failed, and the mean scores.
    Raises:
        ArgumentError: nothing to score, arguments that contradict each other, or an unknown suffix. DataError: bad
        input; or `out` holds the scores of other files or another bundle. OutputExistsError: `out` would be replaced.
        OutputError: it cannot be written. Of the scorer: see `Scorer`.

    >>> outcome = score_files(["song.wav"], bundle="model", out="scores.csv", prompt="A slow piano ballad.")
    >>> outcome.to_dict()["scored"], outcome.failed
    (1, {})
    """
    paths, listed = _audio_paths(audio), None if manifest is None else Path(manifest)
    root = None if audio_root is None else Path(audio_root)
    target = out if callable(out) else Path(out)
    _check_arguments(paths, prompt, listed, root, target, overwrite)
    items = items_of_manifest(listed, root) if listed else items_of_paths(paths, prompt)
    asked = _bundles_or_scorer(DEFAULT if bundle is None else bundle)
    _refuse_options(asked, options)
    if isinstance(asked, list):
        for each in asked:
            if isinstance(each, str | PathLike):  # what does that takes seconds to import
                log.info("%s", _loading(fspath(each), is_default=bundle is None))
    run = _Run(items, asked, options, progress, on_start)
    if not isinstance(target, Path):
        run.score(items, target)
    elif table := TABLES.get(target.suffix.lower()):
        _write_table(target, table, run, items, overwrite=overwrite)
    else:
        with score_file(target, overwrite=overwrite) as file:
            run.complete(file)
    return run.outcome


def _audio_paths(audio: Any) -> list[Path]:
    """Return the files and folders of a call; what ends as a folder does is one."""
    given = [*audio] if isinstance(audio, Iterator) else audio
    paths = paths_of("audio", given)
    for each, path in zip([given] if isinstance(given, str | PathLike) else given, paths, strict=True):
        if fspath(each).endswith(os.sep) and not is_folder(path):
            raise DataError(f"{shown(fspath(each))}: folder not found, expected one of audio files")
    return paths


def _check_arguments(
    audio: Sequence[Path],
    prompt: str | None,
    manifest: Path | None,
    audio_root: Path | None,
    out: Path | Callable[[bytes], object],
    overwrite: bool,
) -> None:
    if not audio and manifest is None:
        raise ArgumentError("nothing to score; give AUDIO files or folders, or --manifest")
    if manifest and prompt is not None:
        raise ArgumentError("--prompt goes without --manifest, whose rows have their own")
    if manifest and audio:
        raise ArgumentError(
            f"{str(audio[0])!r}: AUDIO goes without --manifest, which lists its own; the folder that it is in is "
            "--audio-root"
        )
    if audio_root and not manifest:
        raise ArgumentError("--audio-root goes with --manifest, whose paths are relative to it")
    if not isinstance(out, Path):
        if overwrite:
            raise ArgumentError("--overwrite goes with --out")
    elif manifest and real_path(out) == real_path(manifest):
        raise ArgumentError("--out is the manifest; give another one")
    else:
        refuse_suffix(out, FORMATS)
        refuse_occupied(out, what="file of scores", overwrite=True)  # a folder; of files, it depends on what they hold


def _bundles_or_scorer(bundle: "BundleLike | Sequence[BundleLike] | Scorer") -> "list[BundleLike] | Scorer":
    """List what may be one bundle or several; a scorer is taken as it is."""
    return cast("Scorer", bundle) if hasattr(bundle, "score_items") else listed_bundles(bundle)


def _loading(bundle: str, *, is_default: bool) -> str:
    """Say what is loaded, and of a published head what may be done with its scores."""
    entry, _ = find_revision(bundle)
    if entry is None:
        return f"loading the bundle {shown(bundle) if bundle.strip() == bundle else quoted(bundle)} ..."
    return f"{entry.name}{' (default)' if is_default else ''}: {entry.terms}"


def _refuse_options(bundle: "list[BundleLike] | Scorer", options: Mapping[str, Any]) -> None:
    """Refuse options of a scorer that is loaded already."""
    given = [name for name, value in options.items() if value is not None]
    if given and not isinstance(bundle, list):
        raise ArgumentError(
            f"{', '.join(given)}: the scorer is loaded already; leave these out, or give them to Scorer"
        )


class _Run:
    """One call of `score_files`: the scorer is loaded when the first clip needs it."""

    def __init__(
        self,
        items: Sequence[Item],
        bundle: "list[BundleLike] | Scorer",
        options: dict[str, Any],
        progress: Progress | None,
        on_start: "Callable[[Sequence[Item], Scorer], object]",
    ) -> None:
        self.outcome = Outcome(len(items))
        self._items, self._bundle, self._options, self._progress = items, bundle, options, progress
        self._on_start = on_start

    def complete(self, file: ScoreFile) -> None:
        """Score what a file of lines does not hold yet. Where it holds everything, no encoder is loaded."""
        left = self._items
        if file.holds_lines():
            done = file.resume(self._items, *self._expected(), self.outcome.add)
            left = [item for item in self._items if item.id not in done]
            log.info("%d of %d done before", len(done), len(self._items))
        if left:
            self.score(left, file.write)

    def score(self, items: Sequence[Item], write: Callable[[bytes], object]) -> None:
        """Score items, and write a line for each."""
        scorer = self._scorer()
        self.outcome.about = tuple(scorer.about())
        self._on_start(items, scorer)
        for done, made in enumerate(scorer.score_items(items), 1):
            write(to_line(made, scorer.entries))
            self.outcome.add(made.to_dict())
            if self._progress:
                failed = len(self.outcome.failed)
                self._progress("score", done, len(items), f"{failed} failed" if failed else "")

    def _expected(self) -> tuple[Entries, Mapping[str, Sequence[str]]]:
        """Return what lines say of the bundles and the names of their values.

        The bundles are loaded once: lines are compared with what is scored by.
        """
        if not isinstance(self._bundle, list):
            return self._bundle.entries, self._bundle.names
        from audiomos_cache.bundle.load import load_bundle
        from audiomos_cache.scoring.lines import entries_of, names_of

        loaded = [load_bundle(each) if isinstance(each, str | PathLike) else each for each in self._bundle]
        self._bundle = [*loaded]
        mode: WindowMode = self._options.get("windows") or "released"
        return entries_of(loaded, mode), names_of(loaded, mode)

    def _scorer(self) -> "Scorer":
        if not isinstance(self._bundle, list):
            return self._bundle
        from audiomos_cache.scoring.scorer import Scorer

        options = {name: value for name, value in self._options.items() if value is not None}
        scorer = Scorer(self._bundle, **options)
        for entry in scorer.entries.values():
            if "non-commercial" in entry["licence"] and find_revision(entry["name"])[0] is None:  # else it was said
                log.info("%s: %s", shown(entry["name"]), shown(entry["licence"]))
        if scorer.untrained:
            from audiomos_cache.encoders.lookup import UNTRAINED_NOTICE

            for name in scorer.untrained:
                log.warning("%s is %s", name, UNTRAINED_NOTICE)
        return scorer


def _write_table(out: Path, table: TableFormat, run: _Run, items: Sequence[Item], *, overwrite: bool) -> None:
    """Score into a hidden file of lines, and make a table of it at the end.

    Failed clips need the lines again, and so do clips of an interrupted run that are not among these.
    """
    out = real_path(out)
    lines = out.with_name(f".{out.name}.jsonl")
    with score_file(lines, overwrite=overwrite) as file:  # no other process makes the table until it is done
        _refuse_existing(out, table, items, resumes=file.holds_lines(), overwrite=overwrite)
        run.complete(file)
        rows = {row["id"]: row for row in read_lines(lines)}
        atomic_write(out, table.encode([rows[item.id] for item in items]))
        if others := len(rows) - len(items):  # an interrupted run's
            log.info("%s: keeps the scores of %s for a later run", lines, counted(others, "other clip"))
        elif not run.outcome.failed:
            lines.unlink()


def _refuse_existing(out: Path, table: TableFormat, items: Sequence[Item], *, resumes: bool, overwrite: bool) -> None:
    """Refuse to replace what is no table of scores; and one where nothing is resumed, or that has other clips."""
    if not out.exists():
        return
    if not out.is_file():
        raise OutputError(f"{out}: not a file, expected one for the scores; give another --out")
    try:
        found = table.read_ids(out)
    except DataError as problem:
        raise OutputExistsError(f"{out}: {problem}; give another --out") from None
    ids = {item.id.encode(errors="backslashreplace").decode() for item in items}  # as a table has them
    if not overwrite and not (resumes and set(found) <= ids):
        raise OutputExistsError(
            f"{out}: exists already; give another --out, --overwrite to replace it, or a .jsonl file, which a later "
            "run resumes"
        )
