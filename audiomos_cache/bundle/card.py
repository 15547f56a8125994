"""`README.md`: a bundle's model card, for people and for the Hugging Face hub."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from audiomos_cache.bundle.calibration import FEW, LEVEL, RESAMPLES, Calibration
from audiomos_cache.bundle.entries import EncoderEntry
from audiomos_cache.bundle.evidence import Calibrated, Evidence
from audiomos_cache.bundle.front_matter import front_matter, on_hub
from audiomos_cache.bundle.manifest import Manifest
from audiomos_cache.escaping import markdown
from audiomos_cache.progress import counted
from audiomos_cache.targets import MEASURES, TARGETS, VIEWS

if TYPE_CHECKING:
    from audiomos_cache.scoring.check_report import Check

_VIEW_NAMES = {
    "utt_mi": "clips, MI",
    "utt_ta": "clips, TA",
    "sys_mi": "systems, MI",
    "sys_ta": "systems, TA",
}

_INTRODUCTION = """\
# A predictor of listeners' opinions of generated music

Predicts two mean opinion scores, 1 to 5, of a music clip and the text prompt that it was made from: **MI**, music
impression, and **TA**, text alignment. Made by `audiomos-cache`: frozen encoders, small heads trained on their
features, and a fusion of the heads' predictions.

## What it is for

To compare text-to-music systems, or versions of one, by clips like those that it was trained on. Not to replace a
listening test, to judge a single clip in earnest, or to rate music that people made; nor as a reward without checks:
what is optimised against a predictor learns its mistakes.

## How to use it

    audiomos-cache score song.wav --prompt "a calm piano piece" --bundle model/

```python
from audiomos_cache import Scorer

Scorer("model").score(["song.wav"], ["a calm piano piece"])
```

`model/` is this folder, or the id of the hub repository that holds it. Prompts are expected in
English, as those of MusicEval are: one whose letters are mostly not Latin gets a warning."""

_HONEST = """\
The factor of the intervals comes from all of these clips; coverage and width are of each fold's clips, by the factor of
the other folds, so of clips it did not know. An interval holds the mean opinion of listeners for about that share of
clips like these; of other music, it may hold fewer."""

_HELD_OUT = {
    "prompt": "clips of new prompts, by systems that other folds had; for a new system",
    "system": "clips of new systems, mostly of prompts that other folds had; for a new prompt",
    "none": "clips whose prompts and systems other folds had; for a new prompt or system",
}
_RESAMPLED = {"prompt": "prompts", "system": "systems", "none": "clips"}


_CHECK_HEAD = (
    "score",
    "music made worse by",
    "change of score, rung by rung",
    "strongest rung: ± 95 %",
    "strongest rung: clips that fell",
    "verdict",
)
_CHECK_IT = "By music of your own: `audiomos-cache info model/ --check song.wav`."


def model_card(manifest: Manifest, evidence: Evidence, check: "Check | str") -> str:
    """Write the card of a bundle, in Markdown; the same bundle gives the same text.

    Args:
        manifest: what it is made of.
        evidence: what is known of its scores.
        check: what music that gets worse does to them; or why that is not known.
    """
    sections = [
        _front_matter(manifest, evidence),
        _INTRODUCTION,
        _members(manifest),
        _evaluation(evidence, len(manifest.members)),
        _intervals(evidence.calibrated),
        check_section(check),
        encoder_section(
            [("audio", manifest.encoders.audio), ("text", manifest.encoders.text)], manifest.fingerprint.xxh3_128
        ),
        _data(manifest),
        f"## Licence\n\n{manifest.licence.notice}",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(manifest: Manifest, evidence: Evidence) -> str:
    base_models = on_hub([manifest.encoders.audio, manifest.encoders.text])
    name = f"audiomos-cache: {manifest.fusion.method} of {counted(len(manifest.members), 'head')}"
    return front_matter(manifest.licence.id, base_models, evidence, name)


def _members(manifest: Manifest) -> str:
    rows = [
        (
            each.name,
            f"{each.head.temporal.kind}, {each.head.pooling.kind}, {each.head.text_audio.kind}, {each.head.downstream}",
            each.head.output.kind + (f" on {each.bins} bins" if each.bins else ""),
            ", ".join(map(str, each.layers_read)),
            each.seed,
            each.best,
        )
        for each in manifest.members
    ]
    listed = table(("member", "head", "output", "layers", "seed", "checkpoint, best by"), rows)
    blended = f"Their predictions are blended by `{manifest.fusion.method}`." if len(rows) > 1 else ""
    return f"## Members\n\n{listed}\n\n{blended}".rstrip()


def _evaluation(evidence: Evidence, members: int) -> str:
    scores = evidence.scores
    if scores is None:
        return "## Evaluation\n\nNone was recorded when this bundle was made."
    how = (
        f"Out-of-fold, {evidence.out_of_fold}: each clip by a fusion that was fitted without it."
        if evidence.out_of_fold
        else "Of clips that the blend was not fitted on."
    )
    rows = [(_VIEW_NAMES[view], *(_number(scores[view], measure) for measure in MEASURES)) for view in VIEWS]
    parts = [
        f"{how} {scores['n_clips']} clips of {scores['n_systems']} systems.",
        table(("level and score", *(measure.upper() for measure in MEASURES)), rows),
    ]
    if intervals := scores.get("intervals"):
        parts.append(
            f"In brackets: {100 * intervals['level']:.0f} % intervals ({markdown(intervals['method'])}; "
            f"{intervals['n_boot']} resamples of {markdown(intervals['resampled'])})."
        )
        parts += [f"{markdown(note[:1].upper() + note[1:])}." for note in intervals["notes"]]
    if evidence.chosen_on:
        parts.append(
            f"{evidence.chosen_on} of the {members} members chose their checkpoints on these clips, so these numbers "
            "may be optimistic, and the intervals below too narrow."
        )
    return "\n\n".join(["## Evaluation", *parts])


def _number(agreement: Mapping[str, Any], measure: str) -> str:
    value, bounds = agreement[measure], agreement.get(f"{measure}_ci")
    shown = "n/a" if value is None else f"{value:.4f}"
    return f"{shown} ({bounds[0]:.3f}, {bounds[1]:.3f})" if bounds else shown


def _intervals(calibrated: Calibrated | None) -> str:
    if calibrated is None:
        return "## Intervals\n\nNone: this bundle was not calibrated, and its scores come without intervals."
    rows = [
        (target.upper(), f"{each.factor:.4f}", each.clips, _coverage(each), f"{each.mean_width:.3f}")
        for target, each in ((target, calibrated.targets[target]) for target in TARGETS)
    ]
    listed = table(("score", "factor", "clips", "coverage", "mean width"), rows)
    how = f"{100 * LEVEL:.0f} % intervals: score ± factor x spread of the opinions, calibrated with {calibrated.folds}."
    return "\n\n".join(["## Intervals", how, listed, _HONEST, *_doubts(calibrated)])


def _coverage(calibration: Calibration) -> str:
    bounds = calibration.coverage_ci
    return f"{calibration.coverage:.3f}" + (f" ({bounds[0]:.3f}, {bounds[1]:.3f})" if bounds else "")


def _doubts(calibrated: Calibrated) -> Iterator[str]:
    group, targets = calibrated.folds.group, calibrated.targets.values()
    if any(each.coverage_ci for each in targets):
        how = f"percentiles; {RESAMPLES} resamples of {_RESAMPLED[group]}"
        yield f"In brackets: 95 % intervals of the coverage ({how})."
    yield f"Held out were {_HELD_OUT[group]} the coverage varies more."
    if min(each.clips for each in targets) < FEW:
        yield (
            f"On fewer than {FEW} clips the coverage tends to be above {100 * LEVEL:.0f} %, as the factor is that of a "
            "whole clip, rounded up."
        )


def check_section(check: "Check | str") -> str:
    """Return the section about what music that gets worse does to the scores of a bundle, of whatever heads.

    Args:
        check: the check; or why there is none, as far as is known.
    """
    if isinstance(check, str):
        parts = [f"Not checked when this bundle was made{f': {markdown(check)}' if check else ''}.", _CHECK_IT]
    else:
        listed = table(_CHECK_HEAD, check.cells())
        notes = [f"Shuffled prompts: {check.no_prompts}."] if check.no_prompts else []
        notes += [f"Clips that could not be heard: {len(check.left_out)}."] if check.left_out else []
        parts = [f"**{markdown(check.verdict())}**", check.how(), listed, *notes, _CHECK_IT]
    return "\n\n".join(["## Can it be trusted?", *parts])


def encoder_section(encoders: Sequence[tuple[str, EncoderEntry]], fingerprint: str) -> str:
    """Return the section about where the encoders are to be had.

    Args:
        encoders: kind and entry of each.
        fingerprint: of the features.
    """
    rows = [(kind, each.source, each.revision, each.weights_xxh3_128) for kind, each in encoders]
    notes = [_elsewhere(kind) for kind, each in encoders if each.revision == "local"]
    notes += sorted({f"**{markdown(each.name)}: {markdown(each.notice)}.**" for _, each in encoders if each.notice})
    listed = table(("encoder", "source", "revision", "weights, xxh3_128"), rows)
    return "\n\n".join(["## Encoders", listed, *notes, f"Fingerprint of the features: `{fingerprint}`."])


def _elsewhere(kind: str) -> str:
    return (
        f"The {kind} encoder was a folder of the machine that made this bundle. Elsewhere give "
        f"`--{kind}-encoder FOLDER` with weights of that hash."
    )


def _data(manifest: Manifest) -> str:
    trained = sorted({("training", each.train.clips, each.train.labels_xxh3_128) for each in manifest.members})
    chosen = sorted({("choice of checkpoints", each.dev.clips, each.dev.labels_xxh3_128) for each in manifest.members})
    parts = ["## Data", table(("labels for", "clips", "hash of the labels, xxh3_128"), trained + chosen)]
    if manifest.intervals:
        labels = manifest.intervals.labels
        parts.append(f"Intervals: the list {markdown(labels.name)}, xxh3_128 `{labels.xxh3_128}`.")
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown, its cells escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(content: object) -> str:
    return markdown(content) if isinstance(content, str) else str(content)
