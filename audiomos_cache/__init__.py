"""Predict mean opinion scores of generated music from cached features of frozen encoders.

Seven verbs on four artefacts: a dataset becomes a `Cache`, a cache becomes `Run`s, runs become a `Fusion` and a
`Bundle`, and a bundle scores new music.

    from audiomos_cache import Scorer, extract, fuse, make_bundle, train_head

    extract("MusicEval-phase1", "cache/musiceval")
    runs = train_head("cache/musiceval", "transformer-dist", seed=[1984, 1990]).folders
    fuse(runs, "fused", labels="MusicEval-phase1/sets/dev_mos_list.txt")
    make_bundle(runs, "model", fusion="fused")
    Scorer("model").score(["song.wav"], ["A slow piano ballad."])

Each name is imported when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from audiomos_cache._version import __version__

if TYPE_CHECKING:
    from audiomos_cache.bundle.bundle import Bundle as Bundle
    from audiomos_cache.bundle.load import load_bundle as load_bundle
    from audiomos_cache.bundle.make import make_bundle as make_bundle
    from audiomos_cache.bundle.published import make_published_bundle as make_published_bundle
    from audiomos_cache.cache.folder import Cache as Cache
    from audiomos_cache.cache.maintenance import merge as merge
    from audiomos_cache.cache.verify import verify as verify
    from audiomos_cache.dataset.splitting import split as split
    from audiomos_cache.describe import info as info
    from audiomos_cache.evaluation.evaluate import evaluate as evaluate
    from audiomos_cache.evaluation.submission import submit as submit
    from audiomos_cache.extraction.extract import extract as extract
    from audiomos_cache.fusion.base import Fusion as Fusion
    from audiomos_cache.fusion.fuse import fuse as fuse
    from audiomos_cache.fusion.record import load_fusion as load_fusion
    from audiomos_cache.heads.parts import PartConfig as PartConfig
    from audiomos_cache.registry import register as register
    from audiomos_cache.runs import Run as Run
    from audiomos_cache.scoring.check import check_bundle as check_bundle
    from audiomos_cache.scoring.results import Score as Score
    from audiomos_cache.scoring.score_files import score_files as score_files
    from audiomos_cache.scoring.scorer import Scorer as Scorer
    from audiomos_cache.training.predict import predict as predict
    from audiomos_cache.training.train_head import train_head as train_head
    from audiomos_cache.upstream.import_run import import_upstream as import_upstream

_HOMES = {
    "Bundle": "bundle.bundle",
    "Cache": "cache.folder",
    "Fusion": "fusion.base",
    "PartConfig": "heads.parts",
    "Run": "runs",
    "Score": "scoring.results",
    "Scorer": "scoring.scorer",
    "check_bundle": "scoring.check",
    "evaluate": "evaluation.evaluate",
    "extract": "extraction.extract",
    "fuse": "fusion.fuse",
    "import_upstream": "upstream.import_run",
    "info": "describe",
    "load_bundle": "bundle.load",
    "load_fusion": "fusion.record",
    "make_bundle": "bundle.make",
    "make_published_bundle": "bundle.published",
    "merge": "cache.maintenance",
    "predict": "training.predict",
    "register": "registry",
    "score_files": "scoring.score_files",
    "split": "dataset.splitting",
    "submit": "evaluation.submission",
    "train_head": "training.train_head",
    "verify": "cache.verify",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    """Import what is asked for from its room."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*globals(), *_HOMES])
