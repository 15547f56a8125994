import re

import pytest
import xxhash

from audiomos_cache.artifacts import Fingerprint
from audiomos_cache.errors import CacheError

FIELDS = {"dtype": "float16", "pad_to_s": 30.0, "audio_encoder": {"class": "MuQ", "layer": -1, "mel_std": 18.4}}


def test_digest_is_that_of_the_canonical_json():
    text = '{"audio_encoder":{"class":"MuQ","layer":-1,"mel_std":18.4},"dtype":"float16","pad_to_s":30.0}'
    fingerprint = Fingerprint.of(FIELDS)
    assert fingerprint.json == text
    assert fingerprint.digest == xxhash.xxh3_128_hexdigest(text.encode())
    assert fingerprint.fields == FIELDS
    assert Fingerprint.of(dict(reversed(FIELDS.items()))) == fingerprint


def test_a_number_that_json_does_not_have():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Fingerprint.of({"mel_std": float("nan")})


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"dtype": "float32"}, "dtype is 'float32', expected 'float16'"),
        ({"pad_to_s": None}, "pad_to_s is None, expected 30.0"),
        ({"audio_encoder": {"class": "MuQ", "layer": 5, "mel_std": 18.4}}, "audio_encoder.layer is 5, expected -1"),
        ({"audio_encoder": {"class": "MuQ", "layer": -1}}, "audio_encoder.mel_std is '(absent)', expected 18.4"),
        ({"added": 1, "pad_to_s": 1}, "added is 1, expected '(absent)'"),
    ],
)
def test_another_fingerprint_names_the_first_difference(change, difference):
    expected, other = Fingerprint.of(FIELDS), Fingerprint.of(FIELDS | change)
    message = (
        f"train.h5: fingerprint {other.digest}, expected {expected.digest}; first difference: {difference}; fix it\n"
        f"  found:    {other.json}\n"
        f"  expected: {expected.json}"
    )
    with pytest.raises(CacheError, match=f"^{re.escape(message)}$"):
        other.require(expected, "train.h5", "fix it")
    other.require(Fingerprint.of(FIELDS | change), "train.h5", "fix it")


def test_the_readable_forms_can_be_left_out():
    other = Fingerprint.of(FIELDS | {"dtype": "float32"})
    with pytest.raises(CacheError, match=r"first difference: dtype is 'float32', expected 'float16'; fix it$"):
        other.require(Fingerprint.of(FIELDS), "train.h5", "fix it", readable=False)
