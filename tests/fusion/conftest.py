"""Members that are made up, and the golden ones."""

import pytest

from audiomos_cache.dataset.labels import read_labels
from audiomos_cache.evaluation.predictions import read_predictions
from tests.support.fusion import DEV, LABELS, fuse


@pytest.fixture(scope="session")
def dev():
    """The golden members on the dev split, and its labels."""
    return [read_predictions(path) for path in DEV], read_labels(LABELS)


@pytest.fixture(scope="module")
def fused_files(tmp_path_factory):
    """A fusion of three files, in its folder."""
    out = tmp_path_factory.mktemp("fused") / "out"
    fuse(DEV, out, labels=LABELS, apply=DEV)
    return out
