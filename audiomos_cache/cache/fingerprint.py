"""The fingerprint of a cache: a hash of all that decides a feature's value."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from audiomos_cache.errors import CacheError, shown


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Encoders, layer, resampler, padding, limits and dtype of a cache, as canonical JSON.

    Batch size, device, number of threads and where the weights came from are not in it: they decide no value.
    """

    json: str

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Fingerprint":
        """Make the fingerprint of nested fields of strings, numbers and None."""
        return cls(json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False))

    @property
    def digest(self) -> str:
        """The hash, 32 hex digits of xxh3_128."""
        return xxhash.xxh3_128_hexdigest(self.json.encode())

    @property
    def fields(self) -> dict[str, Any]:
        """The readable form."""
        fields: dict[str, Any] = json.loads(self.json)
        return fields

    def require(self, expected: "Fingerprint", what: str, advice: str, *, readable: bool = True) -> None:
        """Refuse a fingerprint that is not the expected one.

        Args:
            expected: what is asked for.
            what: the item that has this fingerprint, for the message.
            advice: what the user can do.
            readable: tell both readable forms too, a line each.
        Raises:
            CacheError: naming both digests and the first field that differs, then both readable forms.
        """
        if self.digest != expected.digest:
            forms = f"\n  found:    {self.json}\n  expected: {expected.json}" if readable else ""
            raise CacheError(
                f"{what}: fingerprint {self.digest}, expected {expected.digest}; "
                f"first difference: {shown(_first_difference(self.fields, expected.fields))}; {advice}{forms}"
            )


def _first_difference(found: Mapping[str, Any], expected: Mapping[str, Any], prefix: str = "") -> str:
    for key in sorted(found.keys() | expected.keys()):
        a, b = found.get(key, "(absent)"), expected.get(key, "(absent)")
        if isinstance(a, dict) and isinstance(b, dict):
            inner = _first_difference(a, b, f"{prefix}{key}.")
            if inner:
                return inner
        elif a != b:
            return f"{prefix}{key} is {a!r}, expected {b!r}"
    return ""
