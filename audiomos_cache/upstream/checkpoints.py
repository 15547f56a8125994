"""The published code's checkpoints: their tensors, read safely, and put into our heads under our names.

A checkpoint holds the whole model: the head, two buffers that follow from its sizes, and the frozen encoders.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from audiomos_cache.errors import DataError, first_five
from audiomos_cache.heads.config import UPSTREAM_HEADS
from audiomos_cache.heads.model import Head
from audiomos_cache.heads.outputs import CoralOutput, DistributionOutput, LstmDownstream, ScalarOutput
from audiomos_cache.upstream.quirks import float32_bin_centres, float32_positions
from audiomos_cache.upstream.tensors import fault, read_checkpoint, tensors_by_name, wrong_names

_ENCODERS = ("muq.", "roberta.")  # prefixes of the frozen encoders' names
_WRAPPERS = ("state_dict", "model_state_dict")  # where the published code looks for the tensors, in this order
_POSITIONS, _BIN_CENTRES = "audio_pos_encoder.pe", "bin_centers"

# Prefixes of our names, and of the original's. The rest of a name differs in attentions alone; see upstream_names.
_NAMES = {
    "temporal.layers.": "audio_transformer_encoder.layers.",
    "pooling.weight.": "audio_attentive_pool.attention_weights.",
    "text_audio.audio_projection.": "audio_seq_proj.",
    "text_audio.text_projection.": "text_seq_proj.",
    "text_audio.attention.": "cross_attention.",
    "text_audio.norm.": "cross_attention_norm.",
    "text_audio.pooling.weight.": "fused_attentive_pool.attention_weights.",
}
_MLP_NAMES = {
    "mi.0.layers.": "overall_mlp.",
    "mi.1.linear.": "overall_mlp.5.",
    "ta.0.layers.": "coherence_mlp.",
    "ta.1.linear.": "coherence_mlp.5.",
}
_LSTM_NAMES = {
    "text_audio.audio_projection.": "audio_embed_to_common_for_crossattn.",
    "mi.0.lstm.": "overall_lstm.",
    "mi.1.linear.": "overall_fc.",
    "ta.0.lstm.": "coherence_lstm.",
    "ta.1.linear.": "coherence_fc.",
}
_CORAL_NAMES = {
    "mi.0.layers.": "overall_quality_head.shared_fc.",
    "mi.1.linear.": "overall_quality_head.raw_outputs_layer.",
    "ta.0.layers.": "coherence_head.shared_fc.",
    "ta.1.linear.": "coherence_head.raw_outputs_layer.",
}
_OUTPUTS = {ScalarOutput: "scalar", DistributionOutput: "distribution", CoralOutput: "coral"}


def read_upstream_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.pth` file of the published code, by name, the encoders' among them.

    The file is read once for its checksums. The tensors are mapped from it, so that those never used take no memory.
    Nothing in the file is executed.

    Raises:
        DataError: the file does not exist, is damaged, foreign, of torch's old format, or holds more than tensors.
    """
    return read_checkpoint(path, _WRAPPERS, "the published code")


def load_upstream_state(head: Head, state: Mapping[str, object], source: str = "the checkpoint") -> None:
    """Put the published code's tensors into a head, with or without `compat`; both have the same.

    The encoders' tensors are left out. A transformer-dist and a decoupled-dist have the same tensors.

    Args:
        head: of one of the published code's architectures.
        state: tensors by the original's names, or a dict that holds them as "state_dict" or "model_state_dict".
        source: what a message calls them.
    Raises:
        DataError: a tensor is missing, unknown, of a wrong shape, no floats, or not finite, or the published code has
            head of these parts; names all these tensors. The head is left unchanged.
    """
    names = upstream_names(head)
    tensors = {n: t for n, t in tensors_by_name(state, source, _WRAPPERS).items() if not n.startswith(_ENCODERS)}
    own = head.state_dict()
    problems = list(wrong_names(set(tensors), set(names), set(_buffers(head))))
    faults = [fault(name, tensors[name], own[names[name]].shape) for name in names if name in tensors]
    faults += [_buffer_fault(head, name, tensors[name]) for name in _buffers(head) if name in tensors]
    if found := [each for each in faults if each]:
        problems.append(first_five(found))
    if problems:
        raise DataError(f"{source}: not the tensors of this head: {'; '.join(problems)}; give the head it was made for")
    head.load_state_dict({ours: tensors[name] for name, ours in names.items()})


def upstream_names(head: Head) -> dict[str, str]:
    """Return the names of a head's tensors: the original's, and for each ours.

    Raises:
        DataError: the published code has no head of these parts.
    """
    lstm = isinstance(head.get_submodule("mi.0"), LstmDownstream)
    output = next(kind for layer, kind in _OUTPUTS.items() if isinstance(head.get_submodule("mi.1"), layer))
    starts = _NAMES | (_LSTM_NAMES if lstm else _CORAL_NAMES if output == "coral" else _MLP_NAMES)
    used = {name: next((start for start in starts if name.startswith(start)), "") for name in head.state_dict()}
    parts = ("decoupled" if head.decoupled else "cross_attention", "lstm" if lstm else "mlp", output)
    if parts not in UPSTREAM_HEADS or set(used.values()) != set(starts):
        raise DataError("the published code has no head of these parts, so none of its checkpoints fits")
    originals = {starts[start] + name.removeprefix(start): name for name, start in used.items()}
    return {
        original.replace(".attention.", ".self_attn.").replace(".in_proj.", ".in_proj_"): name
        for original, name in originals.items()
    }


def _buffers(head: Head) -> tuple[str, ...]:
    """Name the original's buffers, which a checkpoint may leave out: our heads compute them."""
    has_bins = isinstance(head.get_submodule("mi.1"), DistributionOutput)
    return (_POSITIONS, _BIN_CENTRES) if has_bins else (_POSITIONS,)


def _buffer_fault(head: Head, name: str, tensor: Tensor) -> str | None:
    """Check that a buffer holds what the published code computes, up to rounding, which may differ by machine."""
    own = head.state_dict()
    width, bins = own["pooling.weight.weight"].shape[1], len(own["mi.1.linear.bias"])
    positions = 0 if tensor.is_nested or not tensor.dim() else len(tensor)
    if found := fault(name, tensor, (positions, 1, width) if name == _POSITIONS else (bins,)):
        return found
    computed = float32_positions(positions, width).unsqueeze(1) if name == _POSITIONS else float32_bin_centres(bins)
    if not torch.allclose(tensor.to(computed.dtype), computed, rtol=0, atol=1e-2):
        return f"{name} holds other numbers than the published code's"
    return None
