"""Tensors by name in other people's checkpoints: read without running anything, and compared with what is expected."""

import reprlib
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

import torch
from torch import Tensor

from audiomos_cache.errors import AudiomosError, DataError, first_five, in_one_line, shown
from audiomos_cache.files import require_file
from audiomos_cache.upstream.torch_files import DENSE_TENSORS, ForeignNameError, load_torch_file

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_checkpoint(path: Path, wrappers: Sequence[str], whose: str) -> dict[str, Tensor]:
    """Read the tensors of a file that `torch.save` or safetensors wrote, by name.

    A file of torch is read once for its checksums. The tensors are mapped from it, so that those never used take no
    memory. Nothing in it is executed.

    Args:
        path: the file; the suffix `.safetensors` decides.
        wrappers: keys under which the tensors may lie, in this order.
        whose: checkpoint is expected, for messages, such as "the published code".
    Raises:
        DataError: the file does not exist, is damaged, foreign, of torch's old format, or holds more than tensors.
    """
    if path.suffix == ".safetensors":
        require_file(path, f"a checkpoint of {whose}", DataError)
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            reason = in_one_line(error)
            raise DataError(f"{path}: not safetensors ({reason}), expected a checkpoint of {whose}") from error
    try:
        content = load_torch_file(path, DENSE_TENSORS, mmap=True)
    except DataError:
        raise
    except ForeignNameError as error:
        raise DataError(
            f"{path}: expected dense tensors by name alone, and it holds {shown(str(error))}: save its "
            "state_dict alone; nothing in it was run"
        ) from error
    except Exception as error:  # a hostile or damaged file may raise anything
        raise DataError(
            f"{path}: damaged, or not a checkpoint of {whose}; expected tensors by name; nothing in it was run"
        ) from error
    return tensors_by_name(content, str(path), wrappers)


def tensors_by_name(content: object, source: str, wrappers: Sequence[str]) -> dict[str, Tensor]:
    """Unwrap tensors, and refuse anything else.

    Raises:
        DataError: found something else than tensors by name.
    """
    if isinstance(content, Mapping):
        content = next((content[wrapper] for wrapper in wrappers if wrapper in content), content)
    if not isinstance(content, Mapping):
        raise DataError(f"{source}: found {reprlib.repr(content)}, expected a dict of tensors by name")
    others = [reprlib.repr(n) for n, t in content.items() if not (isinstance(n, str) and isinstance(t, Tensor))]
    if others:
        raise DataError(f"{source}: expected tensors by name, and these are none: {first_five(others)}")
    return dict(content)


def require_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Sequence[int]],
    source: str,
    what: str,
    error: type[AudiomosError] = DataError,
) -> None:
    """Refuse tensors of which one is missing, unknown, of another shape, no dense floats, or not finite.

    Args:
        tensors: found, by name.
        expected: shapes, by name.
        source: where they are from.
        what: they are expected to be, such as "the tensors of this head".
        error: what to raise; names all these tensors.
    """
    problems = list(wrong_names(set(tensors), set(expected)))
    faults = [fault(name, tensors[name], shape) for name, shape in expected.items() if name in tensors]
    if found := [each for each in faults if each]:
        problems.append(first_five(found))
    if problems:
        raise error(f"{source}: not {what}: {'; '.join(problems)}; give the file that was published")


def wrong_names(found: Set[str], expected: Set[str], optional: Set[str] = frozenset()) -> Iterator[str]:
    """Say which names are missing, and which unknown."""
    if missing := sorted(expected - found):
        yield f"missing: {first_five(missing)}"
    if unknown := sorted(found - expected - optional):
        yield f"unknown: {first_five(unknown)}"


def fault(name: str, tensor: Tensor, shape: Sequence[int]) -> str | None:
    """Say what keeps a tensor from being dense floats of a shape; nothing is computed that fills the memory."""
    dense = tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized or tensor.is_meta)
    if tensor.dtype not in _FLOATS or not dense:
        return f"{name} is {tensor.dtype}, {tensor.layout}, on {tensor.device}, expected dense floats"
    if tensor.shape != tuple(shape):
        return f"{name} is {tuple(tensor.shape)}, expected {tuple(shape)}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"{name} has {tensor.numel()} numbers and stores fewer, expected each"
    return None if tensor.to(torch.float32).isfinite().all() else f"{name} is not finite"
