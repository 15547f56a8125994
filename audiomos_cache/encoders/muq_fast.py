"""MuQ's network arranged for a GPU: the same weights and the same function, in half precision.

What differs from the class is how the work is arranged:

- Batch norms, which are frozen, are folded into the convolutions before them (in float32, then rounded once).
- Images have time before frequency and their channels last, so that no layer before the conformer moves data around,
  and a convolution adds its residual and applies its ReLU as it writes.
- Attention does not hold its matrix of scores; convolutions of one frame are matrix products.
- The sums that run through the conformer and the norms that close its layers stay in float32: rounded at each of
  their 48 additions, they alone would double the error (1.5e-3 of a frame instead of 0.7e-3, random weights).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_KERNEL, _PADDING = 3, 1
_ALIGNED = 16  # numbers of a row, for which a GPU's matrix products are made


class FastMuQ(nn.Module):
    """The convolutions and the conformer of a MuQ, from its own modules, which stay as they are."""

    def __init__(self, model: Any, layers: Sequence[int]) -> None:
        """Copy the weights.

        Args:
            model: `muq`'s inner model, with rotary positions, in float32.
            layers: the hidden states to give, as `MuQEncoder` numbers them.
        """
        super().__init__()
        self.given = tuple(layers)
        self.front = FrontEnd(model.conv)
        self.layers = nn.ModuleList(ConformerLayer(layer) for layer in model.conformer.layers)
        self.norm = _copy_norm(model.conformer.layer_norm)
        self.frequencies: Tensor
        self.register_buffer("frequencies", model.conformer.embed_positions.inv_freq.clone(), persistent=False)

    @staticmethod
    def can_arrange(model: Any) -> bool:
        """Return whether a MuQ can be arranged so: it has rotary positions, as the released one."""
        return bool(model.conformer.config.position_embeddings_type == "rotary")

    def convert(self, dtype: torch.dtype, device: torch.device) -> "FastMuQ":
        """Move to a device, with all but the running sums and their norms in `dtype`."""
        self.to(device)
        self.front.to(dtype=dtype)
        for layer in self.layers:
            assert isinstance(layer, ConformerLayer)
            for branch in layer.branches:
                branch.to(dtype=dtype)
        for module in self.front.modules():
            if isinstance(module, Convolution):
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        return self.eval().requires_grad_(False)

    def forward(self, mel: Tensor) -> Tensor:
        """Turn (B, mels, T) float32, normalised, into (layers, B, ceil(ceil(T / 2) / 2), dim) float32."""
        x = self.front(mel)
        cos, sin = rotary_tables(x.shape[1], self.frequencies, x.dtype)
        x = x.float()
        kept = []
        for i, layer in enumerate(self.layers[: max(self.given)]):
            if i in self.given:
                kept.append(x)
            x = layer(x, cos, sin)
        kept.append(self.norm(x) if len(self.layers) in self.given else x)
        return torch.stack(kept)


class FrontEnd(nn.Module):
    """Two residual blocks of convolutions, each of which halves time and frequency, then a linear layer."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(block) for block in conv.conv)
        channels = conv.conv[-1].conv2.out_channels
        out, width = conv.linear.weight.shape
        self.linear = nn.Linear(width, out)
        # The class has channels before frequencies in a row; here they come after them.
        weight = conv.linear.weight.data.reshape(out, channels, width // channels).transpose(1, 2).flatten(1)
        self.linear.weight.data, self.linear.bias.data = weight.contiguous(), conv.linear.bias.data.clone()

    def forward(self, mel: Tensor) -> Tensor:
        """Turn (B, mels, T) into (B, T / 4, dim)."""
        x = mel.to(self.linear.weight.dtype).transpose(1, 2).contiguous().unsqueeze(1)  # (B, 1, T, mels)
        for block in self.blocks:
            x = block(x)
        rows: Tensor = self.linear(x.permute(0, 2, 3, 1).flatten(2))
        return rows


class ResidualBlock(nn.Module):
    """relu(second(relu(first(x))) + shortcut(x)), of folded convolutions."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.first = Convolution(block.conv1, block.bn1)
        self.second = Convolution(block.conv2, block.bn2)
        self.shortcut = Convolution(block.conv3, block.bn3)
        self.second.bias.data += self.shortcut.bias.data  # added once, where the sum is written

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, in, T, F) into (B, out, T / 2, F / 2)."""
        out: Tensor = self.second(self.first(x), self.shortcut.linear(x))
        return out


class Convolution(nn.Module):
    """A 3 x 3 convolution with the batch norm after it folded in, on images that have time before frequency."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        weight, bias = fold_norm(conv.weight, conv.bias, norm)
        self.weight = nn.Parameter(weight.transpose(2, 3))
        self.bias = nn.Parameter(bias)
        self.stride = conv.stride[::-1]

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Convolve (B, in, T, F), add a tensor of the result's shape, and clip at zero."""
        if not fuses(x):
            out = functional.conv2d(x, self.weight, self.bias, self.stride, _PADDING)
            return (out if added is None else out + added).relu_()
        geometry = (self.stride, (_PADDING, _PADDING), (1, 1), 1)
        if added is None:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *geometry)
        return torch.cudnn_convolution_add_relu(x, self.weight, added, 1.0, self.bias, *geometry)

    def linear(self, x: Tensor) -> Tensor:
        """Convolve without bias or clipping; a single channel by a matrix product, which cuDNN takes longer for."""
        if x.shape[1] > 1:
            return functional.conv2d(x, self.weight, None, self.stride, _PADDING)
        patches = functional.pad(x[:, 0], (_PADDING,) * 4)
        patches = patches.unfold(1, _KERNEL, self.stride[0]).unfold(2, _KERNEL, self.stride[1]).flatten(3)
        unused = -patches.shape[3] % _ALIGNED
        kernel = functional.pad(self.weight.flatten(1), (0, unused))
        return (functional.pad(patches, (0, unused)) @ kernel.T).permute(0, 3, 1, 2)


class ConformerLayer(nn.Module):
    """A conformer layer (Gulati et al. 2020, arXiv 2005.08100) with rotary positions, as transformers computes it."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.first = FeedForward(layer.ffn1, layer.ffn1_layer_norm)
        self.attention = RotaryAttention(layer.self_attn, layer.self_attn_layer_norm)
        self.convolution = ConvolutionModule(layer.conv_module)
        self.second = FeedForward(layer.ffn2, layer.ffn2_layer_norm)
        self.norm = _copy_norm(layer.final_layer_norm)

    @property
    def branches(self) -> tuple[nn.Module, ...]:
        """What is added to the running sum."""
        return self.first, self.attention, self.convolution, self.second

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn (B, T, dim) float32 into (B, T, dim) float32; the tables are in the branches' dtype."""
        x = x + self.first(x)
        x = x + self.attention(x, cos, sin)
        x = x + self.convolution(x)
        normed: Tensor = self.norm(x + self.second(x))
        return normed


class FeedForward(nn.Module):
    """Half of what the class's feed-forward gives of the normed input: the half is in the weights."""

    def __init__(self, feed_forward: Any, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = _copy_norm(norm)
        self.wide = _linear(feed_forward.intermediate_dense.weight, feed_forward.intermediate_dense.bias)
        self.activation = feed_forward.intermediate_act_fn
        self.narrow = _linear(feed_forward.output_dense.weight / 2, feed_forward.output_dense.bias / 2)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, T, dim) into (B, T, dim)."""
        out: Tensor = self.narrow(self.activation(self.wide(_normed(self.norm, x))))
        return out


class RotaryAttention(nn.Module):
    """Self-attention whose queries and keys are projected from rotated inputs, as the class does it."""

    def __init__(self, attention: Any, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = _copy_norm(norm)
        self.heads = int(attention.num_heads)
        query, key = attention.linear_q, attention.linear_k
        self.query_key = _linear(torch.cat((query.weight, key.weight)), torch.cat((query.bias, key.bias)))
        self.value = _linear(attention.linear_v.weight, attention.linear_v.bias)
        self.out = _linear(attention.linear_out.weight, attention.linear_out.bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Turn (B, T, dim) into (B, T, dim)."""
        x = _normed(self.norm, x)
        heads = x.view(*x.shape[:2], self.heads, -1)  # (B, T, heads, head)
        first, second = heads.chunk(2, dim=3)
        rotated = torch.addcmul(heads * cos, torch.cat((-second, first), dim=3), sin).flatten(2)
        both = self.query_key(rotated).view(*x.shape[:2], 2 * self.heads, -1)
        query, key = both.transpose(1, 2).chunk(2, dim=1)
        value = self.value(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
        out: Tensor = self.out(functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return out


class ConvolutionModule(nn.Module):
    """The conformer's convolution: gated, over time a channel at a time, then mixed."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.norm = _copy_norm(module.layer_norm)
        self.gated = _linear(module.pointwise_conv1.weight[:, :, 0], None)
        weight, bias = fold_norm(module.depthwise_conv.weight, None, module.batch_norm)  # (dim, 1, kernel), (dim,)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.activation = module.activation
        self.mix = _linear(module.pointwise_conv2.weight[:, :, 0], None)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (B, T, dim) into (B, T, dim)."""
        x = functional.glu(self.gated(_normed(self.norm, x)), dim=2).transpose(1, 2)
        x = functional.conv1d(x, self.weight, self.bias, padding=self.weight.shape[2] // 2, groups=len(self.weight))
        out: Tensor = self.mix(self.activation(x.transpose(1, 2)))
        return out


def rotary_tables(frames: int, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, (frames, 1, head) each, of the angles by which each frame is rotated."""
    times = torch.arange(frames, device=frequencies.device, dtype=frequencies.dtype)
    angles = torch.outer(times, frequencies).repeat(1, 2)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def fold_norm(weight: Tensor, bias: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution that does what it and the frozen batch norm after it do."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    before = norm.running_mean if bias is None else norm.running_mean - bias
    folded: Tensor = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    shift: Tensor = norm.bias - before * scale
    return folded.detach(), shift.detach()


def fuses(x: Tensor) -> bool:
    """Return whether cuDNN fuses a convolution with what follows it: it does in half precision."""
    return x.is_cuda and torch.version.cuda is not None and x.dtype in (torch.float16, torch.bfloat16)


def _normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Norm the running sum for a branch, in the branch's dtype."""
    normed: Tensor = norm(x.to(norm.weight.dtype))
    return normed


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone())
    return linear


def _copy_norm(norm: nn.LayerNorm) -> nn.LayerNorm:
    copied = nn.LayerNorm(norm.normalized_shape, norm.eps)
    copied.load_state_dict(norm.state_dict())
    return copied
