"""The published bundles: what each predicts, where it is from, what may be done with it, and how good it is.

Nothing heavier than NumPy is imported here. Each has a module of its own, with `read(path) -> Checkpoint`, its files,
and `build(tensors) -> torch.nn.Module`, what it computes: called as a `heads.model.Head` is, with frames of `layer`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from audiomos_cache.errors import BundleError, shown
from audiomos_cache.files import is_folder
from audiomos_cache.hub import split_revision
from audiomos_cache.registry import not_one_of
from audiomos_cache.targets import Target

if TYPE_CHECKING:
    from torch import Tensor

    from audiomos_cache.encoders.muq_weights import MuQWeights
    from audiomos_cache.input_spec import Rule, Window

DEFAULT = "muq-eval-a1"
MOST_SECONDS = 3600.0  # of a song that is heard whole; memory allows less


class Checkpoint(NamedTuple):
    """What the files of a published head hold.

    Attributes:
        head: its tensors, by the names that `build` takes.
        encoder: the MuQ that came with it, None where none did.
    """

    head: "Mapping[str, Tensor]"
    encoder: "MuQWeights | None" = None


@dataclass(frozen=True, slots=True)
class PublishedBundle:
    """A published head for frozen MuQ.

    Attributes:
        name: by which it is asked for.
        module: in this room.
        summary: what it predicts, one line.
        repository: on the Hugging Face hub; None: `address` says where the files are.
        address: of the weights.
        files: patterns of what is fetched, or has to be in the folder.
        size: of these files, as a reader wants it.
        paper: who published it, and where.
        licence: of the head; `licence_id` is as the hub has it.
        targets: what it predicts.
        layer: which hidden state of MuQ it takes; -1 is the last.
        window: what it hears of a clip.
        seconds: how long that is.
        in_domain, out_of_domain: figures with their sources.
        meaning: what the scores mean, and do not.
    """

    name: str
    module: str
    summary: str
    repository: str | None
    address: str
    files: tuple[str, ...]
    size: str
    paper: str
    licence: str
    licence_id: str
    targets: tuple[Target, ...]
    layer: int
    window: "Window"
    seconds: float
    in_domain: str
    out_of_domain: str
    meaning: tuple[str, ...]

    @property
    def is_non_commercial(self) -> bool:
        """Return whether its own licence forbids commercial use; that of MuQ does in any case."""
        return "-NC" in self.licence

    @property
    def pad_to_s(self) -> float | None:
        """Return the length that clips are padded to; None: they are heard at their own."""
        return None if self.window == "whole" else self.seconds

    @property
    def rule(self) -> "Rule":
        """Return what of a clip is encoded."""
        return {"max_seconds": self.seconds, "window": self.window, "padding": "heard"}

    @property
    def terms(self) -> str:
        """Say what may be done with its scores."""
        return f"head {self.licence}, encoder MuQ CC-BY-NC-4.0: non-commercial use only"

    @property
    def heard(self) -> str:
        """Say what it hears of a clip."""
        return "the whole song" if self.window == "whole" else f"the middle {self.seconds:g} s"

    def code(self) -> Any:
        """Return its module, with `read` and `build`."""
        return import_module(f"audiomos_cache.published.{self.module}")


_SONGEVAL = ("coherence", "musicality", "memorability", "clarity", "naturalness")
_MADB = (
    "overall_score",
    "melody_perception",
    "melody_emotion",
    "rhythm_perception",
    "structure_perception",
    "performance_and_singing_mood",
    "performance_skill",
    "arrangement_perception",
    "arrangement_emotion",
    "enunciation_and_singing_skill",
    "sound_effect_perception",
)

PUBLISHED = {
    each.name: each
    for each in (
        PublishedBundle(
            name="muq-eval-a1",
            module="muq_eval",
            summary="MI of text-to-music clips; its TA head hears the audio alone",
            repository="zhudi2825/MuQ-Eval-A1",
            address="https://huggingface.co/zhudi2825/MuQ-Eval-A1",
            files=("config.yaml", "base.yaml", "model_state_dict.pt"),
            size="1.34 GB",
            paper="Zhu and Li 2026, arXiv 2603.22677",
            licence="MIT",
            licence_id="mit",
            targets=(Target("mi", clipped=False), Target("ta_without_prompt", clipped=False)),
            layer=-1,
            window="centre",
            seconds=10.0,
            in_domain="MusicEval's test split, 413 clips: MI SRCC .809, LCC .809, MSE .295 (from its published scores)",
            out_of_domain="none published",
            meaning=(
                "MI: music impression, 1 to 5, as experts would rate it on average. Typical error .54 (RMSE, 413 clips "
                "of MusicEval); expect more on newer generators.",
            ),
        ),
        PublishedBundle(
            name="songeval",
            module="songeval",
            summary="five dimensions of whole songs",
            repository=None,
            address="https://github.com/ASLP-lab/SongEval (ckpt/model.safetensors, by git-lfs)",
            files=("model.safetensors",),
            size="about 100 MB, and MuQ",
            paper="Yao et al. 2025, arXiv 2505.10793",
            licence="CC-BY-NC-SA-4.0",
            licence_id="cc-by-nc-sa-4.0",
            targets=tuple(Target(name) for name in _SONGEVAL),
            layer=6,
            window="whole",
            seconds=MOST_SECONDS,
            in_domain="SongEval's own songs: see its paper",
            out_of_domain="musicality SRCC .695 on MusicEval's test split, .698 on PAM; pairs of Music Arena 73.9 %, "
            "of CMI-Pref 72.4 % (CMI-RewardBench)",
            meaning=(
                "Five dimensions of a whole song, 1 to 5, as 16 musically trained listeners rated 2,399 songs in "
                "English and Chinese.",
            ),
        ),
        PublishedBundle(
            name="madb",
            module="madb",
            summary="eleven dimensions of music aesthetics",
            repository="sirui1/MADB_model_v1",
            address="https://huggingface.co/sirui1/MADB_model_v1",
            files=tuple(f"muq/per_dimension_best_models/avg_{name}.pt" for name in _MADB),
            size="eleven files, and MuQ",
            paper="MADB 2026, arXiv 2607.06929",
            licence="CC-BY-NC-4.0",
            licence_id="cc-by-nc-4.0",
            targets=tuple(Target(name, clipped=False) for name in _MADB),
            layer=-1,
            window="whole",
            seconds=MOST_SECONDS,
            in_domain="MADB's own tracks: see its paper",
            out_of_domain="none known",
            meaning=("Eleven dimensions, 1 to 5, as annotators rated whole tracks on average.",),
        ),
    )
}

REFUSED = {
    "zhudi2825/MuQ-Eval": "its LoRA weights change the encoder's attention (MuQ-Eval-A3a), so no frozen MuQ serves it; "
    "muq-eval-a1 is the published head for a frozen one",
}
"""Repositories whose heads cannot be used, and why."""


def find(name: str) -> PublishedBundle | None:
    """Return the published bundle of a name, or of the hub repository that it is in; None: there is none.

    A folder of the name of a bundle is `./NAME`, one of the name of a repository is taken before it.

    Raises:
        BundleError: it is known that it cannot be used; says why.
    """
    if name in PUBLISHED or "/" not in name or is_folder(name):
        return PUBLISHED.get(name)
    if name in REFUSED:
        raise BundleError(f"{name}: {REFUSED[name]}")
    return next((each for each in PUBLISHED.values() if each.repository == name), None)


def find_revision(given: str) -> tuple[PublishedBundle | None, str | None]:
    """Return the published bundle of `NAME` or `NAME@REVISION`, and the revision that is pinned.

    Raises:
        BundleError: see `find`. ConfigError: nothing is after the `@`.
    """
    if (entry := find(given.partition("@")[0])) is None:
        return None, None
    return entry, split_revision(given)[1] if "@" in given else None


def published(name: str) -> PublishedBundle:
    """Return the published bundle of a name.

    Raises:
        BundleError: there is none; lists the known names, the nearest first.
    """
    found = find(name)
    if found is None:
        raise BundleError(f"--published {shown(name)}: {not_one_of(name, list(PUBLISHED))}")
    return found
