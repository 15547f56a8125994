import numpy as np
import pytest

from audiomos_cache.errors import DataError
from audiomos_cache.evaluation.predictions import Predictions
from audiomos_cache.fusion.align import align_labels, blend_of, common_clips, join_members, predictions_of
from tests.support.fusion import distribution, labels_of, scalar


def test_joining_names_the_first_five_and_the_count():
    wide = Predictions.build("abcdefgh", range(8), range(8))
    with pytest.raises(DataError) as error:
        join_members([wide, scalar()], ["x", "y"])
    assert str(error.value) == ("y: missing clips of x: c, d, e, f, g, ... (6 in all); both must hold the same clips")
    with pytest.raises(DataError, match=r"y: clips that are not in x: c, d, e, f, g, \.\.\. \(6 in all\)"):
        join_members([scalar(), wide], ["x", "y"])
    ids, members = join_members([scalar(), distribution()], ["x", "y"])
    assert (ids, members.names, members.clips) == (("a", "b"), ("x", "y"), 2)
    assert members.scores["ta"].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert members.dists["mi"][0] is None and members.dists["mi"][1].shape == (2, 4)
    assert members.bins("mi") == 4


def test_a_blend_gets_its_ids_back():
    for predictions in (scalar(), distribution()):
        again = predictions_of(predictions.ids, blend_of(predictions))
        assert again.ids == predictions.ids
        for name in ("mi", "ta", "mi_dist", "ta_dist"):
            one, other = getattr(again, name), getattr(predictions, name)
            assert one is other is None or np.array_equal(one, other)


@pytest.mark.parametrize(("names", "expected"), [([], "at least 1"), (["x", "y"], "2")])
def test_joining_takes_a_member_for_each_name(names, expected):
    with pytest.raises(DataError, match=f"predictions to fuse, expected {expected}"):
        join_members([scalar()] if names else [], names)


def test_joining_refuses_other_bins_of_either_target():
    members = [Predictions.build("ab", [1, 2], [1, 2], None, np.full((2, k), 1 / k)) for k in (3, 2, 3, 3, 3, 3)]
    with pytest.raises(DataError) as error:
        join_members(members, list("uvwxyz"))
    assert str(error.value) == (
        "distributions of ta on different bins: u has 3, v has 2, w has 3, x has 3, y has 3, ... (6 in all); "
        "fuse heads of one number of bins, or answers"
    )


def test_common_clips_are_those_of_all():
    members = [Predictions.build(ids, range(len(ids)), range(len(ids))) for ids in ("abcd", "bcde", "dcb")]
    kept, dropped = common_clips(members)
    assert [member.ids for member in kept] == [("b", "c", "d")] * 3
    assert [member.mi.tolist() for member in kept] == [[1, 2, 3], [0, 1, 2], [2, 1, 0]]
    assert dropped == ["a", "e"]
    assert common_clips(members[:1]) == (members[:1], [])
    with pytest.raises(DataError, match="no clip that all 2 members have, expected at least one"):
        common_clips([members[0], scalar(ids="xy")])


def test_labels_are_put_in_the_order_of_the_clips():
    labels = align_labels(labels_of("bca", [2.0, 3.0, 1.0], [5.0, 4.0, 3.0], systems="TUS"), "abc", "x")
    assert labels.ids == ("a", "b", "c")
    assert labels.systems == ("S", "T", "U")
    assert labels.mi.tolist() == [1, 2, 3]
    assert labels.ta.tolist() == [3, 5, 4]


@pytest.mark.parametrize("value", [0.99, 5.01, np.nan, np.inf, -np.inf])
def test_labels_off_the_scale_are_refused(value):
    clips = "abcdefg"
    with pytest.raises(DataError) as error:
        align_labels(labels_of(clips, [3.0] * 7, [value] * 6 + [1.0]), clips, "x")
    assert str(error.value) == (
        "labels of TA that are not from 1 to 5: a, b, c, d, e, ... (6 in all); correct the list"
    )


def test_labels_of_a_clip_twice_are_refused():
    with pytest.raises(DataError, match="x: clips more than once in the labels: a"):
        align_labels(labels_of("aba", [1.0, 2.0, 1.0]), "ab", "x")
