"""The example in a docstring is a test of it."""

import doctest

from audiomos_cache.evaluation import summaries


def test_a_latex_table():
    result = doctest.testmod(summaries)
    assert (result.attempted, result.failed) == (1, 0)
