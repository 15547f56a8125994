import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from audiomos_cache.heads.part_configs import GaussianConfig
from audiomos_cache.targets import (
    NARROWEST_SIGMA,
    bin_centres,
    gaussian_distribution,
    one_hot_distribution,
    ordinal_levels,
    rater_distribution,
)


def test_bins_by_hand():
    assert bin_centres(5).tolist() == [1, 2, 3, 4, 5]
    assert bin_centres(20) == pytest.approx([1 + 4 * k / 19 for k in range(20)])


def test_a_gaussian_by_hand():
    # Sigma 1, bins 1 to 5, score 3: exp(-2), exp(-1/2), 1, exp(-1/2), exp(-2) over their sum.
    far, near = np.exp(-2), np.exp(-0.5)
    expected = np.array([far, near, 1, near, far]) / (1 + 2 * near + 2 * far)
    assert gaussian_distribution([3.0], 5, 1.0)[0] == pytest.approx(expected)


@pytest.mark.parametrize("score", [1.0, 1.1, 2.6, 3.4, 4.8, 5.0])
def test_a_gaussian_is_scipys_normal_density_over_its_sum(score):
    density = stats.norm(score, 0.25).pdf(np.linspace(1, 5, 20))
    assert gaussian_distribution([score], 20, 0.25)[0] == pytest.approx(density / density.sum(), abs=1e-12)


@pytest.mark.parametrize("sigma", [1e-3, 0.01, 0.25, 10.0])
def test_the_rows_of_a_gaussian_sum_to_1(sigma):
    rows = gaussian_distribution(np.linspace(1, 5, 401), 20, sigma)
    assert rows.shape == (401, 20) and rows.dtype == np.float64
    assert (rows >= 0).all()
    assert rows.sum(axis=1) == pytest.approx(np.ones(401), abs=1e-12)


def test_a_narrow_gaussian_falls_into_the_nearest_bin():
    # All densities underflow in float64: 3.3 is 0.3 / 1e-3 = 300 sigmas from bin 3, the nearest of 1 to 5.
    assert gaussian_distribution([3.3], 5, 1e-3).tolist() == [[0, 0, 1, 0, 0]]


@pytest.mark.parametrize("sigma", [1e-160, 9.9e-4, 0.0, -1.0, np.nan])
def test_a_sigma_that_is_too_narrow_is_refused(sigma):
    with pytest.raises(ValueError, match=rf"^sigma is {sigma}, expected 0\.001 or more$"):
        gaussian_distribution([3.3], 20, sigma)


def test_a_config_refuses_the_same_sigmas():
    assert GaussianConfig.model_json_schema()["properties"]["sigma"]["minimum"] == NARROWEST_SIGMA


def test_scores_outside_the_scale_are_clamped():
    assert np.array_equal(gaussian_distribution([0.2, 7.0], 20, 0.25), gaussian_distribution([1.0, 5.0], 20, 0.25))
    assert np.array_equal(one_hot_distribution([0.2, 7.0], 20), one_hot_distribution([1.0, 5.0], 20))


def test_the_mean_of_a_gaussian_is_its_score_away_from_the_ends():
    scores = np.linspace(2, 4, 50)
    assert gaussian_distribution(scores, 20, 0.25) @ np.linspace(1, 5, 20) == pytest.approx(scores, abs=1e-3)


# floor((s - 1) / 4 * 19): 2.6 -> 7.6, 3.0 -> 9.5, 4.8 -> 18.05, 4.999 -> 18.995.
@pytest.mark.parametrize(
    ("score", "index"), [(1.0, 0), (1.2, 0), (2.6, 7), (3.0, 9), (4.8, 18), (4.999, 18), (5.0, 19)]
)
def test_one_hot_bins_of_20_by_hand(score, index):
    assert one_hot_distribution([score], 20)[0].tolist() == [float(k == index) for k in range(20)]


@pytest.mark.parametrize("bins", [5, 6, 11, 21, 41, 101])
def test_a_score_on_a_bin_falls_into_it(bins):
    """Binary floats miss decimal scores by an ulp: (2.6 - 1) / 4 * 20 is a hair under 8."""
    on_bins = np.array([round(1 + 4 * k / (bins - 1), 6) for k in range(bins)])
    assert np.array_equal(one_hot_distribution(on_bins, bins), np.eye(bins))


def test_every_musiceval_label_falls_where_exact_arithmetic_puts_it():
    labels = [1 + k / 5 for k in range(21)]  # the means of five raters
    exact = [k * 19 // 20 for k in range(21)]  # (s - 1) / 4 * 19 = (k / 5) / 4 * 19, floored
    assert one_hot_distribution(labels, 20).argmax(axis=1).tolist() == exact


def test_ordinal_levels_by_hand():
    levels = ordinal_levels([1.0, 1.2, 2.0, 3.4, 4.0, 4.8, 5.0])
    assert levels.tolist() == [
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 0, 0, 0],  # 2.0 does not exceed 2
        [1, 1, 1, 0],
        [1, 1, 1, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]


def test_ordinal_levels_of_three_ranks():
    assert ordinal_levels([1.5, 2.5], ranks=3).tolist() == [[1, 0], [1, 1]]


def test_the_shares_of_the_ranks_by_hand():
    ratings = [[3, 3, 4, 5, 3], [1, 5, np.nan, np.nan, np.nan], [2, 2, 2, 2, np.nan]]
    assert rater_distribution(ratings).tolist() == [[0, 0, 0.6, 0.2, 0.2], [0.5, 0, 0, 0, 0.5], [0, 1, 0, 0, 0]]


def test_the_mean_of_the_shares_is_the_mean_opinion_score():
    ratings = np.random.default_rng(0).integers(1, 6, (200, 5))
    shares = rater_distribution(ratings)
    assert shares.shape == (200, 5) and shares.dtype == np.float64
    assert shares.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-12)
    assert shares @ bin_centres(5) == pytest.approx(ratings.mean(axis=1), abs=1e-12)


@pytest.mark.parametrize("wrong", [[3.5, 3], [0, 3], [3, 6], [np.nan, np.nan], [3, np.inf]])
def test_what_is_no_rank_is_not_counted_silently(wrong):
    with pytest.raises(ValueError, match=r"row 1: found the ratings \[.*\], expected ranks 1 to 5, one or more"):
        rater_distribution([[1, 2], wrong])


def test_ratings_have_a_row_for_each_clip():
    with pytest.raises(ValueError, match=r"found labels of shape \(2,\), expected each clip's ratings, \(N, R\)"):
        rater_distribution([3, 4])


@pytest.mark.process
def test_the_names_of_scores_and_measures_cost_no_scipy() -> None:
    code = (
        "import sys, audiomos_cache.targets as t; print(t.TARGETS, {'scipy', 'torch', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('mi', 'ta') set()\n"
