import pytest
import torch

from audiomos_cache.published import madb
from audiomos_cache.published.catalogue import PUBLISHED
from tests.support.published import GOLDEN, frames_of, made_up, scores_of

CASES = GOLDEN["madb"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The eleven files; all have the golden weights, but for the last bias, so that each scores otherwise."""
    folder = tmp_path_factory.mktemp("madb")
    tensors = made_up(CASES["parameters"], CASES["SCALE"])
    for number, file in enumerate(PUBLISHED["madb"].files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(tensors | {"head.mlp.8.bias": tensors["head.mlp.8.bias"] + number}, path)
    return folder


def test_each_dimension_is_computed_as_the_original_does(files):
    head = madb.build(madb.read(files).head)
    assert [f"avg_{name}" for name in head] == CASES["one file a dimension"]
    for case in CASES["cases"]:
        found = scores_of(head, frames_of(case)[None])
        expected = [case["score"][0] + number for number in range(len(found))]
        assert [value for (value,) in found.values()] == pytest.approx(expected, abs=1e-5)


def test_clips_of_a_batch_do_not_see_each_other(files):
    head = madb.build(madb.read(files / "muq" / "per_dimension_best_models").head)
    means = torch.stack([frames_of(case).mean(dim=0, keepdim=True) for case in CASES["cases"]])
    assert scores_of(head, means)["overall_score"] == pytest.approx(CASES["batch of the three cases"], abs=1e-5)
