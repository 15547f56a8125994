"""A dataset becomes `Clip` records: MusicEval's folders, a manifest, Parquet, or one on the hub. Opens no audio."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audiomos_cache.dataset.clip import PREFIX, Clip, check_split, choose_splits, clip_id_of, inside, system_of
from audiomos_cache.dataset.columns import Columns
from audiomos_cache.dataset.labels import parse_id, parse_mos
from audiomos_cache.dataset.manifests import MANIFESTS, is_manifest, read_manifest
from audiomos_cache.dataset.parquet_files import find_parquet
from audiomos_cache.dataset.tables import collect, read_lines
from audiomos_cache.errors import ArgumentError, DataError
from audiomos_cache.files import exists, is_folder
from audiomos_cache.hub import download_command, resolve_folder, split_revision

EVAL_PHASE = "audiomos2025-track1-eval-phase"
METADATA = ("metadata.csv", "metadata.jsonl")  # of Hugging Face's audiofolder
_HUB_ID = r"[\w-][\w.-]*/[\w.-]+(@.*)?"
_HUB_FILES = ("*.parquet", "*prompt_info.txt")  # what is fetched of a dataset on the hub
DEMO_SYSTEMS = frozenset({"S001", "S006", "S013", "S017", "S018", "S033"})


@dataclass(frozen=True, slots=True)
class SplitList:
    """A split's list, and the folders that may hold its prompts, the nearest first."""

    path: Path
    prompt_folders: tuple[Path, ...]


def fetch_dataset(data: str) -> tuple[Path, dict[str, str] | None]:
    """Find a dataset on this machine, or fetch the Parquet files of one on the Hugging Face hub.

    Args:
        data: a path; or a hub id, `owner/name` or `owner/name@REVISION`, where there is no such path.
    Returns:
        Its path; and the id as `source` and the commit that was fetched as `revision`, None for what was here before.
    Raises:
        DataError: it cannot be fetched, or holds no Parquet file.
    """
    path = Path(data)
    is_local = exists(path) or is_folder(path.parent) or path.suffix.lower() in MANIFESTS
    if is_local or not re.fullmatch(_HUB_ID, data, re.ASCII):
        return path, None
    name, revision = split_revision(data)
    folder, commit = resolve_folder(name, revision, _HUB_FILES, "--data", DataError, repo_type="dataset")
    if not find_parquet(folder):
        raise DataError(
            f"--data {data}: found no Parquet file in the dataset on the hub, expected some; fetch it with "
            f"`{download_command(name, revision, 'dataset')}`, and give --data its manifest"
        )
    return folder, {"source": name, "revision": commit}


def load_dataset(
    data: Path, splits: Sequence[str] = (), *, audio_root: Path | None = None, columns: Columns | None = None
) -> dict[str, tuple[Clip, ...]]:
    """Read a MusicEval folder, its eval-phase folder (or that one's `DATA`), a manifest, or a folder of Parquet files.

    Args:
        data: the folder or the manifest (.csv, .tsv, .jsonl, .parquet). A folder with a `metadata.csv` or
            `metadata.jsonl`, as Hugging Face's audiofolder has it, is that manifest.
        splits: those to read; empty: all that exist.
        audio_root: the folder in which a manifest's audio lies; None: that of the manifest.
        columns: names that a manifest has for some of our columns.
    Returns:
        Clips in their list's order, by split: train, dev, test, eval, then others alphabetically.
    Raises:
        DataError: a list, label or name is not valid, or a split does not exist. ArgumentError: `audio_root` or
        `columns` is given for a MusicEval folder.
    """
    if is_folder(data) and _is_musiceval(data):
        if audio_root is not None or columns:
            given = "--columns" if columns else "--audio-root"
            raise ArgumentError(
                f"{given} goes with a manifest or Parquet; {data} is in MusicEval's layout, leave it out"
            )
        lists = find_lists(data)
        return {split: read_split(split, lists[split]) for split in choose_splits(data, lists, splits)}
    by_split: dict[str, list[Clip]] = {}
    for clip in _read_manifests(data, audio_root, columns or {}):
        by_split.setdefault(clip.split, []).append(clip)
    return {split: tuple(by_split[split]) for split in choose_splits(data, by_split, splits)}


def _is_musiceval(folder: Path) -> bool:
    return any((folder / name / "sets").is_dir() for name in ("", "DATA", f"{EVAL_PHASE}/DATA"))


def _read_manifests(data: Path, audio_root: Path | None, columns: Columns) -> Iterable[Clip]:
    """Read the clips of a manifest, or of the manifests in a folder."""
    if not is_folder(data):
        if data.suffix.lower() not in MANIFESTS:
            found = "a file of another kind" if exists(data) else "not found"
            expected = f"a MusicEval folder, or a manifest ({', '.join(MANIFESTS)})"
            raise DataError(f"{data}: {found}, expected {expected}{_hub_advice(data)}")
        return _read_one(data, data.parent, audio_root, columns)
    named = [data / name for name in METADATA if (data / name).is_file()]
    if len(named) > 1:
        raise DataError(
            f"{data}: found {' and '.join(path.name for path in named)}, expected one; give the one to read"
        )
    if named:
        return read_manifest(named[0], audio_root=audio_root, columns=columns).values()
    files = find_parquet(data)
    if not files:
        raise DataError(
            f"{data}: no list found, expected sets/*_mos_list.txt or sets/eval_list.txt in it, or a manifest named "
            f"{' or '.join(METADATA)}, or Parquet files"
        )
    folder = data.parent if data.suffix == ".parquet" else data  # called like a file, of which it holds the parts
    clips: dict[str, Clip] = {}
    for path in files:
        for clip in _read_one(path, folder, audio_root or data, columns):
            if clip.id in clips:
                first = clips[clip.id].path
                raise DataError(f"{clip.path}: found the id {clip.id!r} again, expected it only once, of {first}")
            clips[clip.id] = clip
    return clips.values()


def _hub_advice(data: Path) -> str:
    """Say why what may be an id on the hub was taken for a path."""
    if exists(data) or not is_folder(data.parent) or not re.fullmatch(_HUB_ID, str(data), re.ASCII):
        return ""
    return f"; the Hugging Face hub was not asked, because there is a folder {data.parent} here"


def _read_one(path: Path, folder: Path, audio_root: Path | None, columns: Columns) -> Iterable[Clip]:
    """Read a manifest in a dataset's folder.

    A Parquet file's place there may say what its split is, and MusicEval's prompt lists may be next to it or `data`.
    """
    if path.suffix.lower() != ".parquet":
        return read_manifest(path, audio_root=audio_root, columns=columns).values()
    above = (path.parent.parent,) if path.parent.name == "data" else ()
    prompts = _PromptLists((path.parent, *above, folder))
    needs = ("audio",) if prompts.found else ("audio", "prompt")
    place = path.relative_to(folder)
    clips = read_manifest(path, audio_root=audio_root, columns=columns, needs=needs, place=place).values()
    return [_with_prompt(clip, prompts) for clip in clips] if prompts.found else clips


def _with_prompt(clip: Clip, prompts: "_PromptLists") -> Clip:
    if clip.prompt is not None:
        return clip
    return replace(clip, prompt=prompts.of(clip.id), prompt_id=prompt_id_of(clip.id))


def find_lists(data: Path) -> dict[str, SplitList]:
    """Find the lists of a MusicEval, eval-phase or `DATA` folder, by split.

    A labelled `eval_mos_list.txt` goes before `eval_list.txt`, and both before the eval phase inside `data`.

    Raises:
        DataError: the folder has no list.
    """
    folder = data if (data / "sets").is_dir() else data / "DATA"
    sets, prompt_folders = folder / "sets", _prompt_folders(folder)
    lists = {
        path.name.removesuffix("_mos_list.txt"): SplitList(path, prompt_folders) for path in sets.glob("*_mos_list.txt")
    }
    phase = data / EVAL_PHASE
    for path, folders in (
        (sets / "eval_list.txt", prompt_folders),
        (phase / "DATA" / "sets" / "eval_list.txt", (phase / "DATA", phase, data)),
    ):
        if path.is_file():
            lists.setdefault("eval", SplitList(path, folders))
    if not lists:
        raise DataError(f"{data}: no list found, expected sets/*_mos_list.txt or sets/eval_list.txt in it")
    return lists


def read_split(split: str, source: SplitList) -> tuple[Clip, ...]:
    """Read the clips of one list, in its order.

    Raises:
        DataError: a line is not valid, an id comes twice, or a name leaves the folder.
    """
    try:
        check_split(split)
    except DataError as problem:
        raise DataError(f"{source.path}: {problem}") from None
    folder = source.path.parent.parent
    prompts = _PromptLists(source.prompt_folders)
    labelled = source.path.name.endswith("_mos_list.txt")

    def parse_clip(line: str) -> tuple[str, Clip]:
        clip_id, (mi, ta) = parse_mos(line) if labelled else (parse_id(line)[0], (None, None))
        path = inside(folder, "wav", f"{clip_id}.wav")
        if "/" in clip_id or "\\" in clip_id:
            raise DataError(f"{clip_id!r} contains a folder, expected the name of a file in wav")
        prompt, prompt_id = prompts.of(clip_id), prompt_id_of(clip_id)
        return clip_id, Clip(clip_id, path, system_of(clip_id), prompt_id, prompt, split, mi, ta)

    return tuple(collect(source.path, read_lines(source.path), parse_clip).values())


def read_prompts_of(labels: Path, ids: Sequence[str]) -> dict[str, str]:
    """Return what identifies each clip's prompt: the prompt itself, or its id where the prompt is not known.

    Args:
        labels: a manifest that holds the clips, or a list; in MusicEval's folder, with the prompts next to it.
        ids: of the clips.
    Returns:
        Prompts or their ids, by clip.
    """
    if is_manifest(labels):
        clips = read_manifest(labels, needs=())
        return {clip_id: clips[clip_id].prompt or clip_id for clip_id in ids}
    prompts = _PromptLists(_prompt_folders(labels.resolve().parent.parent))
    return {clip_id: prompts.of(clip_id) or prompt_id_of(clip_id) for clip_id in ids}


def prompt_id_of(clip_id: str) -> str:
    """Return `P044` of a clip's id; the whole id where the prompt is the clip's own."""
    prompt_id = clip_id.removeprefix(PREFIX).partition("_")[2]
    return clip_id if system_of(clip_id) in DEMO_SYSTEMS or not prompt_id else prompt_id


def _prompt_folders(folder: Path) -> tuple[Path, ...]:
    """Return a folder, and its parents up to MusicEval's where it is the eval phase's `DATA`."""
    parent = folder.resolve().parent
    if folder.resolve().name != "DATA":
        return (folder,)
    return (folder, parent, parent.parent) if parent.name == EVAL_PHASE else (folder, parent)


class _PromptLists:
    """MusicEval's lists of prompts.

    Args:
        folders: they may hold lists; of several prompts with one id, the nearest folder's wins.

    Attributes:
        found: whether there is a list.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._prompts = _read_prompts(folders, "prompt_info.txt")
        self._demo_prompts = _read_prompts(folders, "demo_prompt_info.txt")
        self.found = bool(self._prompts or self._demo_prompts)

    def of(self, clip_id: str) -> str | None:
        """Return a clip's prompt; demo systems have their own."""
        prompts = self._demo_prompts if system_of(clip_id) in DEMO_SYSTEMS else self._prompts
        return prompts.get(prompt_id_of(clip_id))


def _read_prompts(folders: Iterable[Path], name: str) -> dict[str, str]:
    """Read the prompts by id, `.wav` dropped; the nearest folder's prompt wins, an empty prompt is none."""
    prompts: dict[str, str] = {}
    for path in (folder / name for folder in folders):
        if path.is_file():
            distinct = {line: number for number, line in reversed(read_lines(path))}
            rows = [(number, line) for line, number in distinct.items()]
            prompts = collect(path, sorted(rows), _parse_prompt) | prompts
    return {prompt_id: prompt for prompt_id, prompt in prompts.items() if prompt}


def _parse_prompt(line: str) -> tuple[str, str]:
    prompt_id, tab, prompt = line.partition("\t")
    if not tab:
        raise DataError(f"found {line[:40]!r}, expected an id, a tab and the prompt")
    return clip_id_of(prompt_id.strip()), prompt.strip()
