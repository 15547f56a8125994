"""Checkpoints of the published code: what is read, what is loaded, what is refused."""

import argparse
import os
import re
import zipfile
from collections import OrderedDict

import pytest
import torch

from audiomos_cache.errors import DataError
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.model import build_head
from audiomos_cache.upstream.checkpoints import load_upstream_state, read_upstream_checkpoint, upstream_names
from audiomos_cache.upstream.quirks import float32_bin_centres, float32_positions
from tests.support.heads import AUDIO_DIM, TEXT_DIM

PRESETS = ("transformer-scalar", "transformer-dist", "transformer-coral", "decoupled-dist", "decoupled-lstm-dist")
WITH_BINS = ("transformer-dist", "decoupled-dist", "decoupled-lstm-dist")


@pytest.fixture(params=PRESETS)
def preset(request):
    return request.param


def tiny(config, seed=0, compat="upstream"):
    torch.manual_seed(seed)
    return build_head(config, AUDIO_DIM, TEXT_DIM, compat=compat)


def checkpoint(preset, seed=0):
    """What the published code saves: the head, two buffers, and the encoders."""
    head = tiny(preset, seed)
    state = {name: head.state_dict()[ours].clone() for name, ours in upstream_names(head).items()}
    state["audio_pos_encoder.pe"] = float32_positions(5000, AUDIO_DIM).unsqueeze(1)
    if preset in WITH_BINS:
        state["bin_centers"] = float32_bin_centres(20)
    return state | {"muq.model.conv.weight": torch.zeros(3), "roberta.embeddings.position_ids": torch.arange(4)}


def refusal(head, state, *source):
    with pytest.raises(DataError) as caught:
        load_upstream_state(head, state, *source)
    return str(caught.value)


@pytest.mark.parametrize("compat", ["upstream", "none"])
def test_a_checkpoint_is_loaded_whole(preset, compat):
    head, original = tiny(preset, seed=1, compat=compat), tiny(preset).state_dict()
    load_upstream_state(head, checkpoint(preset))
    assert all(torch.equal(tensor, original[name]) for name, tensor in head.state_dict().items())


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict"])
def test_a_wrapped_checkpoint_is_loaded(wrapper):
    head = tiny("transformer-dist", seed=1)
    load_upstream_state(head, {wrapper: checkpoint("transformer-dist"), "epoch": 3})
    assert torch.equal(head.mi[1].linear.weight, tiny("transformer-dist").mi[1].linear.weight)


def test_the_buffers_may_be_missing():
    state = checkpoint("transformer-dist")
    del state["audio_pos_encoder.pe"], state["bin_centers"]
    load_upstream_state(tiny("transformer-dist", seed=1), state)


def test_the_names_of_a_head_of_several_layers():
    names = upstream_names(tiny(HeadConfig.model_validate({"temporal": {"layers": 2}})))
    assert (
        names["audio_transformer_encoder.layers.1.self_attn.in_proj_bias"] == "temporal.layers.1.attention.in_proj.bias"
    )
    assert names["audio_transformer_encoder.layers.1.norm2.weight"] == "temporal.layers.1.norm2.weight"
    assert names["cross_attention.in_proj_weight"] == "text_audio.attention.in_proj.weight"
    assert names["cross_attention.out_proj.bias"] == "text_audio.attention.out_proj.bias"


def test_half_precision_is_loaded_as_the_head_has_it():
    head = tiny("transformer-scalar", seed=1)
    load_upstream_state(head, {name: tensor.half() for name, tensor in checkpoint("transformer-scalar").items()})
    assert head.mi[1].linear.weight.dtype == torch.float32


# What a head refuses


def test_all_problems_are_named_at_once_and_nothing_is_loaded():
    head, state = tiny("transformer-dist", seed=1), checkpoint("transformer-dist")
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    del state["text_seq_proj.bias"], state["overall_mlp.0.weight"]
    state["mulan.weight"] = torch.zeros(1)
    state["overall_mlp.5.weight"] = torch.zeros(1, 8)
    state["overall_mlp.5.bias"] = torch.zeros(20, dtype=torch.int64)
    state["coherence_mlp.0.bias"][3] = torch.nan
    state["coherence_mlp.3.bias"][0] = torch.inf
    state["bin_centers"] = torch.linspace(0, 1, 20)
    state["audio_pos_encoder.pe"][7, 0, 2] += 0.1
    message = refusal(head, state, "x.pth")
    assert message.startswith(
        "x.pth: not the tensors of this head: missing: overall_mlp.0.weight, text_seq_proj.bias; "
        "unknown: mulan.weight; "
        "overall_mlp.5.weight is (1, 8), expected (20, 8), "
        "overall_mlp.5.bias is torch.int64, torch.strided, on cpu, expected dense floats, "
        "coherence_mlp.0.bias is not finite, coherence_mlp.3.bias is not finite, "
        "audio_pos_encoder.pe holds other numbers than the published code's, ... (6 in all); "
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())


@pytest.mark.parametrize(
    ("name", "tensor", "fault"),
    [
        ("bin_centers", torch.linspace(1, 5, 19), "bin_centers is (19,), expected (20,)"),
        ("bin_centers", torch.linspace(0, 5, 20), "bin_centers holds other numbers than the published code's"),
        ("audio_pos_encoder.pe", torch.zeros(9, AUDIO_DIM), "audio_pos_encoder.pe is (9, 32), expected (9, 1, 32)"),
        ("audio_pos_encoder.pe", torch.tensor(0.0), "audio_pos_encoder.pe is (), expected (0, 1, 32)"),
        ("text_seq_proj.bias", torch.zeros(24).to_sparse(),
         "text_seq_proj.bias is torch.float32, torch.sparse_coo, on cpu, expected dense floats"),
        ("text_seq_proj.bias", torch.zeros(24, device="meta"),
         "text_seq_proj.bias is torch.float32, torch.strided, on meta, expected dense floats"),
        ("text_seq_proj.bias", torch.zeros(1).expand(24),
         "text_seq_proj.bias has 24 numbers and stores fewer, expected each"),
        ("text_seq_proj.bias", torch.zeros(24, dtype=torch.complex64),
         "text_seq_proj.bias is torch.complex64, torch.strided, on cpu, expected dense floats"),
        ("audio_pos_encoder.pe", torch.zeros(1, 1, AUDIO_DIM).expand(2**40, 1, AUDIO_DIM),
         f"audio_pos_encoder.pe has {2**40 * AUDIO_DIM} numbers and stores fewer, expected each"),
        ("text_seq_proj.bias", torch.full((24,), 1e300, dtype=torch.float64), "text_seq_proj.bias is not finite"),
    ],
)  # fmt: skip
def test_a_tensor_that_does_not_fit_is_refused(name, tensor, fault):
    state = checkpoint("transformer-dist") | {name: tensor}
    assert refusal(tiny("transformer-dist"), state) == (
        f"the checkpoint: not the tensors of this head: {fault}; give the head it was made for"
    )


def test_bin_centres_belong_to_distributions_alone():
    state = checkpoint("transformer-coral") | {"bin_centers": float32_bin_centres(20)}
    assert "unknown: bin_centers; " in refusal(tiny("transformer-coral"), state)


def test_a_checkpoint_of_another_architecture_is_refused(preset):
    for other in set(PRESETS) - {preset}:
        if {preset, other} == {"transformer-dist", "decoupled-dist"}:  # the same tensors, used otherwise
            load_upstream_state(tiny(preset), checkpoint(other))
        else:
            assert "not the tensors of this head" in refusal(tiny(preset), checkpoint(other))


@pytest.mark.parametrize(
    "settings",
    [
        {"temporal": {"kind": "none"}},
        {"temporal": {"kind": "bilstm"}},
        {"pooling": "mean"},
        {"pooling": "mean_std"},
        {"text_audio": {"kind": "concat"}},
        {"text_audio": {"kind": "none"}},
        {"downstream": "lstm"},
        {"downstream": "lstm", "output": {"kind": "coral"}},
        {"text_audio": {"kind": "decoupled"}, "output": {"kind": "scalar"}},
    ],
)
def test_a_head_that_the_published_code_does_not_have_is_refused(settings):
    head = tiny(HeadConfig.model_validate(settings), compat="none")
    assert refusal(head, checkpoint("transformer-dist")) == (
        "the published code has no head of these parts, so none of its checkpoints fits"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "the checkpoint: found [1, 2], expected a dict of tensors by name"),
        ({"state_dict": 3}, "the checkpoint: found 3, expected a dict of tensors by name"),
        ({"a": 1, 2: torch.zeros(1)}, "the checkpoint: expected tensors by name, and these are none: 'a', 2"),
    ],
)
def test_what_holds_no_tensors_by_name_is_refused(content, message):
    assert refusal(tiny("transformer-dist"), content) == message


# Files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ckpt_best_val_loss.pth"


def refused_file(path):
    with pytest.raises(DataError) as caught:
        read_upstream_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_file_is_read_and_loaded(preset, path, wrap):
    torch.save(wrap(checkpoint(preset)), path)
    state = read_upstream_checkpoint(path)
    assert list(state) == list(checkpoint(preset))
    head = tiny(preset, seed=1)
    load_upstream_state(head, state, str(path))
    assert torch.equal(head.ta[1].linear.weight, tiny(preset).ta[1].linear.weight)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harmed",))


@pytest.mark.parametrize(
    ("more", "named"),
    [(Harmful(), f"{os.name}.mkdir"), (argparse.Namespace(lr=5e-5), "argparse.Namespace")],
)
def test_a_pickle_of_more_than_tensors_is_refused_and_not_run(path, monkeypatch, more, named):
    monkeypatch.chdir(path.parent)
    torch.save({"state_dict": checkpoint("transformer-dist"), "more": more}, path)
    assert refused_file(path) == (
        f"expected dense tensors by name alone, and it holds {named}: save its state_dict alone; nothing in it was run"
    )
    assert os.listdir() == [path.name]  # noqa: PTH208


def _sparse():
    return torch.zeros(3).to_sparse()


def _nested():
    return torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])


def _quantized():
    return torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8)


def _meta():
    return torch.empty(2**40, device="meta")


class Repeated:
    """A dict made of the same list again and again."""

    def __init__(self, items):
        self.items = items

    def __reduce__(self):
        return OrderedDict, (self.items,)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_sparse, "torch._utils._rebuild_sparse_tensor"),
        (_nested, "torch._utils._rebuild_nested_tensor"),
        (_quantized, "torch._utils._rebuild_qtensor"),
        (_meta, "torch._utils._rebuild_meta_tensor_no_storage"),
        (lambda: bytearray(3), "__builtin__.bytearray"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:torch.quantize_per_tensor")
def test_tensors_that_are_not_dense_are_refused_by_name_before_they_are_made(path, make, named):
    torch.save(checkpoint("transformer-dist") | {"audio_pos_encoder.pe": make()}, path)
    assert refused_file(path) == (
        f"expected dense tensors by name alone, and it holds {named}: save its state_dict alone; nothing in it was run"
    )


def test_a_small_file_of_a_tensor_that_claims_gigabytes_takes_none(path):
    state = checkpoint("transformer-dist")
    state["audio_pos_encoder.pe"] = torch.zeros(1, 1, AUDIO_DIM).expand(2**40, 1, AUDIO_DIM)
    torch.save(state, path)
    read = read_upstream_checkpoint(path)
    assert f"audio_pos_encoder.pe has {2**40 * AUDIO_DIM} numbers and stores fewer, expected each" in refusal(
        tiny("transformer-dist"), read
    )


def test_a_small_file_of_many_copies_takes_no_memory(path):
    items = [(str(n), n) for n in range(10_000)]
    torch.save({str(n): Repeated(items) for n in range(20_000)}, path)
    assert path.stat().st_size < 1_000_000
    assert refused_file(path) == DAMAGED


DAMAGED = "damaged, or not a checkpoint of the published code; expected tensors by name; nothing in it was run"


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, -1])
def test_a_truncated_file_is_refused(path, keep):
    torch.save(checkpoint("transformer-scalar"), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    assert refused_file(path) == DAMAGED


def test_a_flipped_bit_in_a_weight_is_refused(path):
    state = checkpoint("transformer-scalar")
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    content[content.find(state["text_seq_proj.weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True).keys() == state.keys(), "torch takes it"
    message = refused_file(path)
    assert re.fullmatch(
        rf"{path.stem}/data/\d+ in it does not have the checksum it was saved with, so the file is damaged; copy or "
        "download it again",
        message,
    )


def test_torchs_old_format_is_named(path):
    torch.save(checkpoint("transformer-scalar"), path, _use_new_zipfile_serialization=False)
    assert refused_file(path) == (
        "saved in torch's old format, expected a zip archive; load it with a current torch "
        "(torch.load(..., weights_only=True)) and save it again"
    )


def test_a_foreign_file_is_refused(path):
    path.write_text("not a checkpoint\n" * 100)
    assert refused_file(path) == DAMAGED
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("answer.txt", "S001_P001,3,4\n")
    assert refused_file(path) == DAMAGED


def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(path):
    torch.save(checkpoint("transformer-scalar"), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("archive/zeros", bytes(10_000_000))
    assert refused_file(path) == DAMAGED


def test_a_missing_file_and_a_folder_are_refused(path):
    assert refused_file(path) == "file not found, expected a file of torch.save"
    path.mkdir()
    assert refused_file(path) == "is a folder, expected a file of torch.save"
    path.rmdir()
    os.mkfifo(path)
    assert refused_file(path) == "is a named pipe, expected a file of torch.save"
