import json

import numpy as np
import pytest
import torch

from audiomos_cache.published import muq_eval
from tests.support.published import MUQ_EVAL, scores_of

EXPECTED = json.loads((MUQ_EVAL / "expected.json").read_text())["from_features"]


@pytest.mark.parametrize("clip", sorted(EXPECTED))
def test_from_features_it_computes_what_the_original_does(clip):
    checkpoint = muq_eval.read(MUQ_EVAL)
    with np.load(MUQ_EVAL / "features.npz") as features:
        frames = torch.from_numpy(features[clip])
    found = scores_of(muq_eval.build(checkpoint.head), frames.reshape(1, *frames.shape[-2:]))
    assert found["mi"] == pytest.approx([EXPECTED[clip]["MI"]], abs=1e-6)
    assert found["ta_without_prompt"] == pytest.approx([EXPECTED[clip]["TA"]], abs=1e-6)  # one of them above 5
