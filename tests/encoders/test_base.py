import pytest

from audiomos_cache.encoders.base import resolve_layers
from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.errors import ConfigError


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [
        ((-1,), (12,)),
        ((12,), (12,)),
        ((-1, 12), (12,)),
        ((0,), (0,)),
        ((-13,), (0,)),
        ((-2,), (11,)),
        ((12, 6, 9), (6, 9, 12)),
        ((-1, 3, -10, 3), (3, 12)),
        (range(13), tuple(range(13))),
    ],
)
def test_layers_are_counted_from_the_start_sorted_and_taken_once(asked, resolved):
    assert resolve_layers(asked, depth=12, name="muq") == resolved


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((13,), "--layers 13: muq has layers 0 to 12 (or -13 to -1)"),
        ((-14,), "--layers -14: muq has layers 0 to 12 (or -13 to -1)"),
        ((99, 6, -20), "--layers 99,-20: muq has layers 0 to 12 (or -13 to -1)"),
        ((), "--layers: none given; muq has layers 0 to 12 (or -13 to -1)"),
    ],
)
def test_layers_that_there_are_not_are_refused(asked, message):
    with pytest.raises(ConfigError) as caught:
        resolve_layers(asked, depth=12, name="muq")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("asked", "message"), [((0, 3), "--layers 3: muq-tiny has layers 0 to 2 (or -3 to -1)"), ((), "--layers: none")]
)
def test_a_built_in_encoder_refuses_layers_it_does_not_have(asked, message):
    with pytest.raises(ConfigError) as caught:
        load_audio_encoder("muq-tiny", layers=asked)
    assert str(caught.value).startswith(message)
