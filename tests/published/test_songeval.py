import pytest

from audiomos_cache.published import songeval
from tests.support.published import GOLDEN, frames_of, made_up, scores_of

CASES = GOLDEN["songeval"]


@pytest.fixture(scope="module")
def tensors():
    return made_up(CASES["parameters"], CASES["SCALE"])


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: f"{case['T']} frames")
def test_it_computes_what_the_original_does(tensors, case):
    found = scores_of(songeval.build(tensors), frames_of(case)[None])
    assert [name.capitalize() for name in found] == CASES["order"]
    assert [value for (value,) in found.values()] == pytest.approx(case["scores"], abs=1e-5)
