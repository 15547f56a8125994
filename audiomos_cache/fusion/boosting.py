"""Gradient-boosted trees on the members' distributions."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar, Self

import xxhash

from audiomos_cache.errors import ConfigError
from audiomos_cache.evaluation.metrics import Floats
from audiomos_cache.fusion.features import Layout
from audiomos_cache.fusion.stacking import Stacking
from audiomos_cache.fusion.trees import Tree, predict, read_trees

ROUNDS = 100
# LightGBM's own defaults, as published; one thread and rows first, so that the same clips give the same trees.
PARAMETERS = {
    "objective": "regression",
    "seed": 42,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


@dataclass(frozen=True)
class Trees:
    """One target's trees over M members. LightGBM grows them, and is not needed to apply them.

    Attributes:
        layout: what each member contributes.
        text: the trees as LightGBM writes them.
        trees: what the text says.
    """

    layout: Layout
    text: str
    trees: tuple[Tree, ...] = field(repr=False, compare=False)

    @classmethod
    def of(cls, layout: Layout, text: str) -> Self:
        """Read the trees.

        Raises:
            LookupError, ValueError: the text is not trees on such features.
        """
        return cls(layout, text, read_trees(text, len(layout.kinds) * layout.bins))

    @classmethod
    def fit(cls, layout: Layout, features: Floats, truth: Floats) -> Self:
        """Fit it on (N, M * bins) features and (N,) scores.

        Raises:
            ConfigError: LightGBM is not installed, or writes other trees than it did.
        """
        text = grow_trees(features, truth)
        try:
            return cls.of(layout, text)
        except (LookupError, ValueError) as error:
            version = load_lightgbm().__version__
            raise ConfigError(
                f"--method lightgbm: the trees of LightGBM {version} cannot be read ({error}); install LightGBM 4.6"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Return plain values, and the hash of the text."""
        return self.layout.to_json() | {"trees": self.text.splitlines(), "trees_xxh3_128": _hash(self.text)}

    @classmethod
    def from_json(cls, members: int, content: dict[str, Any]) -> Self:
        """Make it of what `to_json` returned."""
        text = "\n".join(content["trees"]) + "\n"
        if (found := _hash(text)) != content["trees_xxh3_128"]:
            raise ValueError(f"trees of hash {found}, expected {content['trees_xxh3_128']}")
        return cls.of(Layout.from_json(content, members), text)

    def predict(self, features: Floats) -> Floats:
        """Return the trees' score of each row of (N, M * bins) features: (N,)."""
        return predict(self.trees, features)


class LightGBMFusion(Stacking):
    """Trees from the members' distributions to the listeners' scores, a target at a time.

    Fitting needs the extra `lightgbm`; applying does not.

    Source: Ritter-Gutierrez et al. 2025 (stacking), published code (its second method, with LightGBM's defaults).
    """

    method: ClassVar[str] = "lightgbm"
    model = Trees


def grow_trees(features: Floats, truth: Floats) -> str:
    """Fit boosted trees; the same features give the same text.

    Args:
        features: (N, D).
        truth: (N,).
    Returns:
        The trees as LightGBM writes them.
    Raises:
        ConfigError: LightGBM is not installed.
    """
    lightgbm = load_lightgbm()
    text: str = lightgbm.train(PARAMETERS, lightgbm.Dataset(features, truth), ROUNDS).model_to_string()
    return text


def _hash(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())


def load_lightgbm() -> ModuleType:
    """Import LightGBM, which is an extra.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:  # OSError: its OpenMP library is missing
        raise ConfigError(
            f"--method lightgbm: LightGBM cannot be loaded ({error}); pip install 'audiomos-cache[lightgbm]'"
        ) from error
    module: ModuleType = lightgbm
    return module
