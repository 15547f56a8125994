"""A dataset becomes `Clip` records: a manifest, MusicEval phase 1, or the challenge's eval phase. Opens no audio."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiomos_cache.dataset.clip import PREFIX, Clip, check_split, choose_splits, clip_id_of, inside, system_of
from audiomos_cache.dataset.labels import parse_id, parse_mos
from audiomos_cache.dataset.tables import collect, is_manifest, read_lines, read_manifest
from audiomos_cache.errors import DataError

EVAL_PHASE = "audiomos2025-track1-eval-phase"
DEMO_SYSTEMS = frozenset({"S001", "S006", "S013", "S017", "S018", "S033"})


@dataclass(frozen=True, slots=True)
class SplitList:
    """A split's list, and the folders that may hold its prompts, the nearest first."""

    path: Path
    prompt_folders: tuple[Path, ...]


def load_dataset(data: Path, splits: Sequence[str] = ()) -> dict[str, tuple[Clip, ...]]:
    """Read a MusicEval folder, its eval-phase folder (or that one's `DATA`), or a .csv or .jsonl manifest.

    Args:
        data: the folder or the manifest.
        splits: those to read; empty: all that exist.
    Returns:
        Clips in their list's order, by split: train, dev, test, eval, then others alphabetically.
    Raises:
        DataError: a list, label or name is not valid, or a split does not exist.
    """
    if data.is_dir():
        lists = find_lists(data)
        return {split: read_split(split, lists[split]) for split in choose_splits(data, lists, splits)}
    if data.suffix.lower() not in (".csv", ".jsonl"):
        found = "a file of another kind" if data.exists() else "not found"
        raise DataError(f"{data}: {found}, expected a MusicEval folder, or a .csv or .jsonl manifest")
    by_split: dict[str, list[Clip]] = {}
    for clip in read_manifest(data).values():
        by_split.setdefault(clip.split, []).append(clip)
    return {split: tuple(by_split[split]) for split in choose_splits(data, by_split, splits)}


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
    prompts = _read_prompts(source.prompt_folders, "prompt_info.txt")
    demo_prompts = _read_prompts(source.prompt_folders, "demo_prompt_info.txt")
    labelled = source.path.name.endswith("_mos_list.txt")

    def parse_clip(line: str) -> tuple[str, Clip]:
        clip_id, (mi, ta) = parse_mos(line) if labelled else (parse_id(line)[0], (None, None))
        path = inside(folder, "wav", f"{clip_id}.wav")
        if "/" in clip_id:
            raise DataError(f"{clip_id!r} contains a folder, expected the name of a file in wav")
        system, prompt_id = system_of(clip_id), prompt_id_of(clip_id)
        prompt = (demo_prompts if system in DEMO_SYSTEMS else prompts).get(prompt_id)
        return clip_id, Clip(clip_id, path, system, prompt_id, prompt, split, mi, ta)

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
        clips = read_manifest(labels)
        return {clip_id: clips[clip_id].prompt or clip_id for clip_id in ids}
    folder = labels.resolve().parent.parent
    prompts = _read_prompts(_prompt_folders(folder), "prompt_info.txt")
    demo_prompts = _read_prompts(_prompt_folders(folder), "demo_prompt_info.txt")
    known = {clip_id: demo_prompts if system_of(clip_id) in DEMO_SYSTEMS else prompts for clip_id in ids}
    return {clip_id: known[clip_id].get(prompt_id_of(clip_id), prompt_id_of(clip_id)) for clip_id in ids}


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
