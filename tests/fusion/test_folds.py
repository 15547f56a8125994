from collections import Counter

import numpy as np
import pytest

from audiomos_cache.errors import ConfigError, DataError
from audiomos_cache.fusion.base import Blend, FittedFusion, Members
from audiomos_cache.fusion.fitting import out_of_fold
from audiomos_cache.fusion.folds import Folds, assign_folds
from tests.support.fusion import clip_ids, labels_of


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_groups_whole_and_are_of_about_one_size(seed):
    random = np.random.default_rng(seed)
    groups = [f"P{n}" for n in random.integers(0, 40, 400)]
    fold = assign_folds(groups, 5, seed)
    assert all(len({fold[i] for i in range(400) if groups[i] == group}) == 1 for group in set(groups))
    sizes = Counter(fold.tolist())
    assert set(sizes) == set(range(5))
    assert max(sizes.values()) - min(sizes.values()) <= max(Counter(groups).values())


def test_folds_depend_on_the_seed_and_not_on_the_order():
    groups = [f"P{n % 37}" for n in range(200)]
    first = assign_folds(groups, 5, 0)
    assert np.array_equal(first, assign_folds(groups, 5, 0))
    assert np.array_equal(first[::-1], assign_folds(groups[::-1], 5, 0))
    assert not np.array_equal(first, assign_folds(groups, 5, 1))


def test_there_are_no_more_folds_than_groups():
    assert sorted(assign_folds(["a", "b", "c", "b"], 5, 0).tolist()) in ([0, 0, 1, 2], [0, 1, 1, 2], [0, 1, 2, 2])
    with pytest.raises(DataError, match="all 2 clips are of one group, 'a', so none can be held out; give another --c"):
        assign_folds(["a", "a"], 5, 0)


def test_clips_are_grouped_by_prompt_system_or_not_at_all():
    ids = ["audiomos2025-track1-S003_P010", "audiomos2025-track1-S002_P010", "mine"]
    labels = labels_of(ids, [3.0] * 3, systems=["S001", "S002", "S002"])
    assert list(Folds.by("prompt", labels).group_of.values()) == ["P010", "P010", "mine"]
    demo = labels_of(["audiomos2025-track1-S001_P010"], [3.0])
    assert list(Folds.by("prompt", demo).group_of.values()) == list(demo.ids), "it has a prompt of its own"
    assert list(Folds.by("system", labels).group_of.values()) == ["S001", "S002", "S002"]
    assert list(Folds.by("none", labels).group_of.values()) == ids
    prompts = dict(zip(ids, ["loud", "soft", "soft"], strict=True))
    assert list(Folds.by("prompt", labels, prompts=prompts).group_of.values()) == ["loud", "soft", "soft"]
    with pytest.raises(ConfigError, match="clips cannot be grouped by 'rater', expected one of prompt, system, none"):
        Folds.by("rater", labels)
    with pytest.raises(ConfigError, match="1 folds, expected at least 2"):
        Folds.by("none", labels, count=1)


def test_out_of_fold_predictions_come_from_a_fusion_that_never_saw_the_clip_or_its_group():
    ids = clip_ids(64)
    labels = labels_of(ids, np.linspace(1, 5, 64), systems=[clip[20:24] for clip in ids])
    rows = np.arange(64.0)  # a clip's score is its row, so that methods can say which clips they were given
    members = Members(("x",), {"mi": rows[None], "ta": rows[None]}, {"mi": [np.eye(64)], "ta": [None]})
    folds = Folds.by("prompt", labels)
    calls = []

    class Spy(FittedFusion):
        @classmethod
        def fit(cls, members, truth, folds):
            del folds
            part = [ids[int(row)] for row in members.scores["mi"][0]]
            assert truth["mi"].tolist() == [labels.mi[ids.index(clip)] for clip in part]
            calls.append((part, []))
            return cls(members.names)

        def blend(self, members):
            calls[-1][1].extend(ids[int(row)] for row in members.scores["mi"][0])
            return Blend({"mi": members.scores["mi"][0], "ta": members.scores["ta"][0]}, {"mi": members.dists["mi"][0]})

    held_out = out_of_fold(Spy, members, labels, folds)
    assert np.array_equal(held_out.scores["mi"], rows) and np.array_equal(held_out.dists["mi"], np.eye(64))
    assert "ta" not in held_out.dists
    assert len(calls) == 5
    for fitted, held in calls:
        assert not {clip[-4:] for clip in fitted} & {clip[-4:] for clip in held}
        assert sorted(fitted + held) == sorted(ids)
    assert sorted(clip for _, held in calls for clip in held) == sorted(ids)
