"""What published heads give, and building one from the tensors of its checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn

from audiomos_cache.errors import BundleError, first_five
from audiomos_cache.upstream.tensors import fault, require_tensors

Built = TypeVar("Built", bound=nn.Module)
Width = Callable[..., int]
"""The width of a layer by its name: `width("fc")` of what it gives, `width("fc", 1)` of what it takes."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A head's predictions for a batch of clips.

    Attributes:
        values: (B,) by the target's name.
    """

    values: dict[str, Tensor]

    def columns(self) -> dict[str, Tensor]:
        """Return them, as `heads.model.HeadOutput.columns` does."""
        return self.values


def head_of(what: str, tensors: Mapping[str, Tensor], build: Callable[[Width], Built]) -> Built:
    """Build a head, in evaluation mode and float32, with exactly these tensors.

    Args:
        what: it is, for messages.
        tensors: by the names of the module that is built; counters of batch norms may be left out.
        build: makes the module, given a function that tells widths.
    Raises:
        BundleError: a tensor is missing, unknown, not finite, or of a shape that does not fit the others.
    """

    def width(layer: str, axis: int = 0) -> int:
        found = given.get(f"{layer}.weight")
        if found is None or found.ndim != 2:
            shown = "missing" if found is None else f"of the shape {tuple(found.shape)}"
            raise BundleError(
                f"{what}: {layer}.weight is {shown}, expected a matrix; found {first_five(sorted(given))}; give the "
                "file that was published"
            )
        return int(found.shape[axis])

    given = {name: each for name, each in tensors.items() if not name.endswith("num_batches_tracked")}
    if faults := [each for name, tensor in given.items() if (each := fault(name, tensor, tensor.shape))]:
        raise BundleError(f"{what}: {first_five(faults)}; give the file that was published")
    head = build(width)
    own = {name: each for name, each in head.state_dict().items() if not name.endswith("num_batches_tracked")}
    require_tensors(
        given, {name: each.shape for name, each in own.items()}, what, f"the tensors of {what}", BundleError
    )
    head.load_state_dict(given, strict=False)
    return head.eval().requires_grad_(False)
