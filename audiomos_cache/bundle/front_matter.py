"""The front matter of a bundle's card: what the Hugging Face hub reads, as `huggingface_hub.ModelCardData` has it."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from audiomos_cache.bundle.entries import EncoderEntry
from audiomos_cache.bundle.evidence import Evidence
from audiomos_cache.targets import MEASURES, VIEWS

_COMMIT = re.compile("[0-9a-f]{40}")  # the revision of what is on the hub; a folder's is `local`
_OTHER = {  # the hub asks for both where the licence is none that it knows; the card's last section has the whole
    "license_name": "of-encoders-and-training-data",
    "license_link": "https://creativecommons.org/licenses/by-nc/4.0/",
}
_METRICS = {"mse": "mse", "lcc": "pearsonr", "srcc": "spearmanr", "ktau": "kendalltau"}  # as the hub calls them
_LEVELS = {"utt": "clips", "sys": "systems"}


def on_hub(encoders: Iterable[EncoderEntry]) -> list[str]:
    """Return the repositories of those encoders that are on the hub."""
    return [each.source for each in encoders if _COMMIT.fullmatch(each.revision)]


def front_matter(licence_id: str, base_models: Sequence[str], evidence: Evidence | None = None, name: str = "") -> str:
    """Return the front matter, in YAML between its two lines; whatever a name contains stays in its string.

    Args:
        licence_id: as the hub has it.
        base_models: repositories of the hub, which the bundle is based on.
        evidence: what is known of its scores, which becomes the `model-index`.
        name: of the model, in that.
    """
    content: dict[str, Any] = {"license": licence_id, **(_OTHER if licence_id == "other" else {})}
    content |= {"library_name": "audiomos-cache", "pipeline_tag": "audio-classification"}
    content |= {"base_model": list(base_models)} if base_models else {}
    content |= {"tags": ["audio", "music", "mean-opinion-score"]}
    if evidence and evidence.scores:
        content["model-index"] = [{"name": name, "results": [_result(evidence, evidence.scores)]}]
    return f"---\n{yaml.safe_dump(content, sort_keys=False, width=math.inf)}---"


def _result(evidence: Evidence, scores: Mapping[str, Any]) -> dict[str, Any]:
    how = "out-of-fold" if evidence.out_of_fold else "not those that the blend was fitted on"
    named = [evidence.labels or "labelled clips", *([evidence.split] if evidence.split else []), how]
    arguments = {
        "clips": scores["n_clips"],
        "systems": scores["n_systems"],
        "out_of_fold": evidence.out_of_fold or False,
        "checkpoints_chosen_on_these_clips": evidence.chosen_on,
    }
    dataset = {"name": ", ".join(named), "type": "mean-opinion-scores"}
    dataset |= {"split": evidence.split} if evidence.split else {}
    return {
        "task": {"type": "audio-classification", "name": "Mean opinion scores of music"},
        "dataset": dataset | {"args": arguments},
        "metrics": list(_metrics(scores)),
    }


def _metrics(scores: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the sixteen numbers, rounded as the card's table is; but for a correlation that is not defined."""
    for view in VIEWS:
        level, target = view.split("_")
        for measure in MEASURES:
            if (value := scores[view][measure]) is not None:
                name = f"{measure.upper()}, {target.upper()}, {_LEVELS[level]}"
                yield {"type": _METRICS[measure], "name": name, "value": round(value, 4)}
