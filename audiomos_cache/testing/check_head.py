"""The promises that every head keeps, checked on one: for users' parts, and for ours.

check_head(build_head({"pooling": "drasp"}, 32, 24), 32, 24)
"""

import copy

import torch
from torch import Tensor

from audiomos_cache.batch import Batch, valid_mask
from audiomos_cache.heads.model import Head, HeadOutput

TOLERANCE = 1e-5  # between a clip alone and in a batch, in score units
_FRAMES, _TOKENS = (40, 9, 1, 23), (3, 12, 7, 1)
_LARGEST = 65504.0  # of float16


def check_head(head: Head, audio_dim: int, text_dim: int, *, layers: int = 1) -> None:
    """Check that a head keeps our promises; its weights are left as they are.

    Shapes and dtype; a clip's scores are the same alone and in a padded batch, and do not depend on the order of the
    batch; a clip of one frame and one token has finite scores and gradients; every parameter gets a gradient; in
    evaluation mode scores do not vary from call to call; float16 features are accepted.

    Args:
        head: what `build_head` returns, with a part of your own, not of `compat: upstream`.
        audio_dim, text_dim: the widths that it was built for.
        layers: how many layers it mixes, if it does.
    Raises:
        AssertionError: names the promise that is broken.
    """
    head = _spread(head)
    batch = _batch(_FRAMES, _TOKENS, audio_dim, text_dim, layers)
    with torch.no_grad():
        output = head(*batch)
        _check_shapes(output, len(batch))
        _check_equal(head(*batch), output, range(len(batch)), "the same batch twice gives the same scores in eval mode")
        _check_alone(head, batch, output)
        order = [2, 0, 3, 1]
        permuted = head(*Batch(*(each[order] for each in batch)))
        _check_equal(permuted, output, order, "permuting the batch permutes the scores")
        half = Batch(batch.frames.half(), batch.frame_mask, batch.tokens, batch.token_mask)
        _check_shapes(head(*half), len(batch))
    _check_gradients(head, batch, "every parameter gets a finite gradient")
    one = _batch((1,), (1,), audio_dim, text_dim, layers)
    _check_gradients(head, one, "a clip of one frame and one token has finite scores and gradients")


def _spread(head: Head) -> Head:
    """Copy a head, with weights drawn wide enough for its scores to differ visibly from clip to clip."""
    head = copy.deepcopy(head).cpu().float().eval().requires_grad_(True)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return head


def _batch(
    frame_counts: tuple[int, ...], token_counts: tuple[int, ...], audio_dim: int, text_dim: int, layers: int
) -> Batch:
    """Make up clips whose padding holds the largest numbers that float16 has."""
    generator = torch.Generator().manual_seed(0)

    def sequences(counts: tuple[int, ...], width: int, inner: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        features = torch.randn(len(counts), *inner, max(counts), width, generator=generator)
        mask = valid_mask(torch.tensor(counts), max(counts))
        padding = torch.where(torch.rand(features.shape, generator=generator) < 0.5, _LARGEST, -_LARGEST)
        shown = mask.reshape(len(counts), *(1 for _ in inner), max(counts), 1)
        return torch.where(shown, features, padding), mask

    mixed = (layers,) if layers > 1 else ()
    return Batch(*sequences(frame_counts, audio_dim, mixed), *sequences(token_counts, text_dim, ()))


def _check_shapes(output: HeadOutput, clips: int) -> None:
    for name, values in output.columns().items():
        assert values.shape[:1] == (clips,), f"{name} has a row per clip: found {tuple(values.shape)}, {clips} clips"
        assert values.dtype == torch.float32, f"{name} is float32: found {values.dtype}"
        assert values.isfinite().all(), f"{name} is finite, whatever the padding holds"
        if name.endswith("_dist"):
            sums = values.sum(dim=1)
            assert (values >= 0).all() and torch.allclose(sums, torch.ones(clips), atol=1e-4), f"{name} sums to 1"
        else:
            assert values.shape == (clips,), f"{name} is one score per clip: found {tuple(values.shape)}"


def _check_alone(head: Head, batch: Batch, together: HeadOutput) -> None:
    for row, (frames, frame_mask, tokens, token_mask) in enumerate(zip(*batch, strict=True)):
        alone = Batch(
            frames[None][..., frame_mask, :],
            frame_mask[frame_mask][None],
            tokens[token_mask][None],
            token_mask[token_mask][None],
        )
        promise = f"a clip has the same scores alone and in a padded batch ({_FRAMES[row]} of {max(_FRAMES)} frames)"
        _check_equal(head(*alone), together, [row], promise)


def _check_equal(found: HeadOutput, expected: HeadOutput, rows: "range | list[int]", promise: str) -> None:
    """Compare all columns of an output with rows of the expected one."""
    others = expected.columns()
    for name, values in found.columns().items():
        difference = float((values - others[name][list(rows)]).abs().max())
        assert difference <= TOLERANCE, f"{promise}: {name} differs by {difference:.2g}, allowed {TOLERANCE:.0e}"


def _check_gradients(head: Head, batch: Batch, promise: str) -> None:
    head.zero_grad(set_to_none=True)
    output = head(*batch)
    (output.mi + output.ta).sum().backward()
    assert output.mi.isfinite().all() and output.ta.isfinite().all(), promise
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, f"{promise}: {name} has none"
        assert parameter.grad.isfinite().all(), f"{promise}: {name} has NaN or infinity"
