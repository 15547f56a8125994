"""What an encoder's weights hash to, and random ones that are the same on every machine."""

import zlib
from collections.abc import Mapping

import numpy as np
import torch
import xxhash
from torch import Tensor, nn


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, dtypes and bytes of floating-point tensors: 32 hex digits of xxh3_128.

    Integer tensors (counters, position indices) do not decide a feature and are left out.
    """
    digest = xxhash.xxh3_128()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.is_floating_point():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def seed_weights(model: nn.Module, seed: int) -> None:
    """Fill every parameter with values that depend on `seed` and the parameter's name alone.

    Weights and biases of a layer are uniform on +-1 / sqrt(fan-in), as torch's linear layers start; norms stay one
    and zero. NumPy draws them, so neither the order in which a library creates its layers nor its own
    initialisation changes them.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            weight = parameters.get(f"{name.rpartition('.')[0]}.weight") if name.endswith(".bias") else parameter
            if weight is None or weight.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
            values = 2 * generator.random(tuple(parameter.shape), dtype=np.float32) - 1
            parameter.copy_(torch.from_numpy(values / np.sqrt(weight[0].numel(), dtype=np.float32)))
