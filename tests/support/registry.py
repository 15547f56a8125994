"""Helpers of tests that register parts."""

from collections.abc import Iterator

import pytest

from audiomos_cache import registry


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Forget after a test which parts of users it registered and imported; what is built in stays."""
    parts = {kind: set(names) for kind, names in registry._parts.items()}
    imported = set(registry._imported)
    yield
    for kind, names in registry._parts.items():
        for name in set(names) - parts[kind] - set(registry.BUILT_IN[kind]):
            del names[name]
    for name in set(registry._imported) - imported:
        del registry._imported[name]
