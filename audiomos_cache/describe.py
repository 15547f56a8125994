"""The verb `info`: what a cache, run, fusion or bundle contains, what can be trusted, and what is known.

The module is not called `info`, since `audiomos_cache.info` is the function.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from audiomos_cache import registry
from audiomos_cache.errors import ArgumentError, CacheError, DataError, paths_of
from audiomos_cache.progress import Progress, counted, gigabytes
from audiomos_cache.published.catalogue import DEFAULT, PUBLISHED, PublishedBundle
from audiomos_cache.runs import CONFIG

WORDS = ("bundles", "encoders", "heads")
_VIEWS = {"utt_mi": "utterance MI", "utt_ta": "utterance TA", "sys_mi": "system MI", "sys_ta": "system TA"}


@dataclass(frozen=True)
class Info:
    """A description of an artefact, a check of a bundle, or a list of what is known.

    Attributes:
        kind: `cache`, `run`, `fusion`, `bundle`, `check`, or a word: `bundles`, `encoders`, `heads`.
        title: one line about it.
        content: strings, numbers, lists and mappings, as for JSON.
        details: further lines for a reader.
        indent: of these.
    """

    kind: str
    title: str
    content: Mapping[str, Any]
    details: tuple[str, ...]
    indent: str = "  "

    def lines(self) -> list[str]:
        """Return the title and the details."""
        return [self.title, *(f"{self.indent}{line}" for line in self.details)]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def to_dict(self) -> dict[str, Any]:
        """Return the content."""
        return dict(self.content)


def info(
    target: str | PathLike[str] | None = None,
    *,
    check: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    prompt: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Info:
    """Describe a cache, run, fusion or bundle, check a bundle, or list what is known.

    Args:
        target: a folder that extract, train-head, fuse or bundle wrote; or `bundles`, `encoders` or `heads` (a folder
            of that name: `./heads`), or the name of a published bundle. None: all three words. With `check`, a bundle
            as `Scorer` takes it, also by name.
        check: clips by which to check the bundle: files, folders of them, manifests; see `check_bundle`. The content
            then has `passed` and `outcome`.
        prompt: of the clips to check it by.
        progress: of a check, called as `progress("check", done, total)`.
        options: of the `Scorer` that checks: audio_encoder, text_encoder, device, precision, batch_size.
    Raises:
        DataError: the folder does not exist, or none of these commands wrote it; or no clip can be heard. CacheError,
            ConfigError, BundleError: it is damaged. EncoderError: its encoders cannot be loaded. ArgumentError: what
            is of a check alone, without one.

    >>> info("cache/tiny").to_dict()["splits"]["dev"]["clips"]
    8
    >>> info("runs/pooling-dist-seed1").kind
    'run'
    >>> "muq-tiny" in info("encoders").to_dict()["audio"]
    True
    """
    if check is not None:
        return _check(target, paths_of("check", check), prompt, progress, options)
    if alone := [name for name, given in {"prompt": prompt, **options}.items() if given is not None]:
        raise ArgumentError(f"{', '.join(alone)}: of a check alone; give --check too, or leave it out")
    if target is None:
        return _everything()
    if isinstance(target, str) and target in WORDS:
        return {"bundles": _bundles, "encoders": _encoders, "heads": _heads}[target]()
    if isinstance(target, str) and target in PUBLISHED:
        return _published(PUBLISHED[target])
    folder = Path(target)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "folder not found"
        raise DataError(
            f"{folder}: {found}, expected a folder that extract, train-head, fuse or bundle wrote, or one of "
            f"{', '.join(WORDS)}"
        )
    if (folder / CONFIG).is_file():
        return _run(folder)
    if (folder / "bundle.yaml").is_file():
        return _bundle(folder)
    if (folder / "fusion.json").is_file():
        return _fusion(folder)
    return _cache(folder)


def _cache(folder: Path) -> Info:
    from audiomos_cache.cache.maintenance import describe_cache
    from audiomos_cache.cache.paths import all_names

    try:
        content = describe_cache(folder)
    except CacheError:
        if all_names(folder):
            raise
        raise DataError(
            f"{folder}: contains no cache, run, fusion or bundle; expected a folder that extract, train-head, fuse or "
            "bundle wrote"
        ) from None
    details = [
        f"{name}: {counted(split['clips'], 'clip')} of {counted(split['systems'], 'system')} and "
        f"{counted(split['prompts'], 'prompt')}, "
        f"{split['hours']:.2f} h, {split['labelled']} labelled, {len(split['skipped'])} skipped, "
        f"{gigabytes(split['bytes'])} in {counted(len(split['files']), 'file')}"
        for name, split in content["splits"].items()
    ]
    for name, split in content["splits"].items():
        if not split["complete"]:
            details.append(f"{name}: not finished, {split['clips']} of {split['of']} clips are done")
    for kind, encoder in content["encoders"].items():
        layers = f" (layers {', '.join(map(str, content['layers']))})" if kind == "audio_encoder" else ""
        details.append(f"{kind}{layers}: " + ", ".join(f"{key} {value}" for key, value in encoder.items()))
    for name, split in content["splits"].items():
        details += [f"skipped in {name}: {clip_id}: {reason}" for clip_id, reason in split["skipped"]]
    return Info("cache", f"{folder}: a cache, fingerprint {content['fingerprint']}", content, tuple(details))


def _run(folder: Path) -> Info:
    from audiomos_cache.runs import Run, require_whole

    run = Run(folder)
    require_whole(folder)
    content = run.to_dict()
    epochs = {best: numbers["epoch"] for best, numbers in content["metrics"].items()}
    details = [
        "checkpoints: " + ", ".join(f"{best} (epoch {epochs[best]})" if best in epochs else best for best in run.bests),
        f"trained on features of {run.audio_dim} and {run.text_dim} dimensions, fingerprint {content['fingerprint']}",
    ]
    for split, scores in content["metrics"].get("loss", {}).items():
        if isinstance(scores, dict) and "utt_mi" in scores:
            srccs = {name: scores[view]["srcc"] for view, name in _VIEWS.items()}
            numbers = (f"{name} {'n/a' if srcc is None else f'{srcc:.4f}'}" for name, srcc in srccs.items())
            details.append(f"SRCC on {split} by the best-loss checkpoint: {', '.join(numbers)}")
    details += [f"{key}: {value}" for key, value in run.made_with.items() if value]
    return Info("run", f"{folder}: a run, seed {run.seed}", content, tuple(details))


def _fusion(folder: Path) -> Info:
    from audiomos_cache.fusion.record import read_record

    content = read_record(folder).content
    members = [str(member["name"]) for member in content["members"]]
    details = [
        f"members: {', '.join(members)}",
        f"fitted on {content['fit_split'] or 'no split'}, applied to {content['apply_split'] or 'files'}",
    ]
    return Info(
        "fusion",
        f"{folder}: a fusion, {content['method']} of {counted(len(members), 'member')}",
        content,
        tuple(details),
    )


def _bundle(folder: Path) -> Info:
    from audiomos_cache.bundle.manifest import PublishedManifest, read_manifest

    manifest, digest = read_manifest(folder)
    audio = manifest.encoders.audio
    if isinstance(manifest, PublishedManifest):
        made_of = f"the published head {manifest.published.name}"
        encoders, details = [audio], []
    else:
        names = [member.name for member in manifest.members]
        made_of = f"{manifest.fusion.method} of {counted(len(names), 'head')}"
        encoders, details = [audio, manifest.encoders.text], [f"heads: {', '.join(names)}"]
    details += [
        "targets: " + ", ".join(f"{each.name} ({each.lowest:g} to {each.highest:g})" for each in manifest.targets),
        "encoders: " + ", ".join(f"{each.name} ({each.source}, {each.revision})" for each in encoders),
        f"licence: {manifest.licence.id}",
    ]
    if not isinstance(manifest, PublishedManifest):
        details += manifest.intervals.lines() if manifest.intervals else ["no intervals: it was not calibrated"]
    content = {"bundle": str(folder), "digest": digest} | json.loads(manifest.model_dump_json())
    return Info("bundle", f"{folder}: a bundle, {made_of}, digest {digest}", content, tuple(details))


def _check(
    target: str | PathLike[str] | None,
    clips: Sequence[Path],
    prompt: str | None,
    progress: Progress | None,
    options: Mapping[str, Any],
) -> Info:
    if target is None or target in WORDS or not clips:
        raise ArgumentError("--check takes a bundle and clips: audiomos-cache info BUNDLE --check song.wav")
    from audiomos_cache.scoring.check import check_items
    from audiomos_cache.scoring.scorer import Scorer
    from audiomos_cache.scoring.versions import items_to_check

    items = items_to_check(clips, prompt)
    found = check_items(Scorer(target, **options), items, progress=progress)
    title, *details = found.lines()
    return Info("check", title, {"bundle": fspath(target)} | found.to_dict(), tuple(details), indent="")


def _bundles() -> Info:
    """Describe the published bundles, a block of lines for each."""
    described = [_published(each) for each in PUBLISHED.values()]
    content = {"bundles": [each.to_dict() for each in described]}
    details = tuple(line for each in described for line in each.lines())
    return Info("bundles", "published bundles; `audiomos-cache bundle` makes one of your own runs", content, details)


def _published(entry: PublishedBundle) -> Info:
    default = " (default of score)" if entry.name == DEFAULT else ""
    content = {
        "name": entry.name,
        "targets": [asdict(target) for target in entry.targets],
        **{key: getattr(entry, key) for key in ("heard", "licence", "size", "paper", "address")},
        **{key: getattr(entry, key) for key in ("in_domain", "out_of_domain")},
    }
    by_hand = "" if entry.repository else "; to be fetched by hand, then bundle --published"
    details = (
        f"targets: {', '.join(target.name for target in entry.targets)}",
        f"hears: {entry.heard}; {entry.size}; {entry.terms}",
        f"paper: {entry.paper}; {entry.address}{by_hand}",
        f"in domain: {entry.in_domain}",
        f"out of domain: {entry.out_of_domain}",
    )
    return Info("published", f"{entry.name}{default}: {entry.summary}", content, details)


def _encoders() -> Info:
    content = {kind: registry.known(f"{kind}_encoder") for kind in ("audio", "text")}
    details = [f"{kind}: {', '.join(names)}, or a folder or hub id" for kind, names in content.items()]
    return Info("encoders", "encoders", content, (*details, "NAME@REVISION pins a revision of a hub repository."))


def _heads() -> Info:
    from audiomos_cache.heads.presets import plan_names, preset_names

    parts = {kind: registry.known(kind) for kind in ("temporal", "pooling", "loss", "fusion")}
    content = {"presets": preset_names(), "plans": plan_names()} | parts
    details = [f"{kind}: {', '.join(names)}" for kind, names in content.items()]
    return Info("heads", "heads", content, tuple(details))


def _everything() -> Info:
    found = [_bundles(), _encoders(), _heads()]
    content = {each.kind: each.to_dict() for each in found}
    bundles = (f"  {each.name}: {each.summary}" for each in PUBLISHED.values())  # `info bundles` says more
    details = ("bundles", *bundles, *(line for each in found[1:] for line in each.lines()))
    return Info("known", "known bundles, encoders and heads", content, details)
