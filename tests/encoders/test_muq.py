import json
import pickle
import shutil
from itertools import pairwise

import pytest
import torch
import torchaudio
import transformers
from muq.muq.modules.conv import Conv2dSubsampling
from muq.muq.muq import MuQ, MuQConfig
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ConformerConfig
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerEncoder

from audiomos_cache.encoders.lookup import load_audio_encoder
from audiomos_cache.encoders.muq_weights import HUB_ID
from audiomos_cache.errors import ConfigError, EncoderError
from tests.support.hub import COMMIT, fill_cache

TRANSFORMERS_4 = int(transformers.__version__.split(".")[0]) < 5
MEAN, STD = 7.25, 16.5
CONFORMER = {
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "activation_dropout": 0.4,
    "attention_dropout": 0.4,
    "conformer_conv_dropout": 0.4,
    "conv_depthwise_kernel_size": 31,
    "feat_extract_activation": "gelu",
    "hidden_act": "swish",
    "hidden_dropout": 0.4,
    "layer_norm_eps": 1e-5,
    "layerdrop": 0.0,
    "max_source_positions": 5000,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 8,
    "position_embeddings_type": "rotary",
    "rotary_embedding_base": 10_000,
}


@pytest.fixture(scope="session")
def original():
    """MuQ's own class, small, with every weight and every statistic of its norms drawn at random."""
    attention = {} if TRANSFORMERS_4 else {"_attn_implementation": "eager"}
    model = MuQ(
        MuQConfig(
            conv_dim=8,
            encoder_dim=32,
            encoder_depth=3,
            stat={"melspec_2048_mean": MEAN, "melspec_2048_std": STD},
            w2v2_config=CONFORMER | attention,
        )
    )
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1 if parameter.ndim < 2 else 0.2))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


@pytest.fixture(scope="session")
def saved(original, tmp_path_factory):
    """A folder written by the model's own `save_pretrained`: the format of the published weights."""
    folder = tmp_path_factory.mktemp("muq")
    original.save_pretrained(folder)
    assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "muq")


@pytest.fixture(scope="session")
def encoder(saved):
    return load_audio_encoder(str(saved))


@pytest.fixture(scope="session")
def all_layers(saved):
    return load_audio_encoder(str(saved), layers=range(4))


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.skipif(not TRANSFORMERS_4, reason="muq 0.1.0's own forward runs on transformers 4 only")
def test_frames_are_those_of_the_models_own_forward(original, encoder, all_layers, noise):
    with torch.inference_mode():
        expected = original(noise, output_hidden_states=True)
    assert torch.equal(encoder.encode(noise), expected.last_hidden_state[None])
    assert torch.equal(all_layers.encode(noise), torch.stack(expected.hidden_states))


@pytest.fixture(scope="session")
def recipe(saved, noise):
    """The published recipe, built from the libraries' own classes: what enters the conformer, and the conformer.

    Log-mel, two residual convolution blocks, conformer.
    """
    weights = load_file(saved / "model.safetensors")

    def part(module, prefix):
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        module.load_state_dict(own)
        return module.eval()

    conv = part(Conv2dSubsampling(1, 8, 32, strides=[2, 2], n_bands=128), "model.conv.")
    config = Wav2Vec2ConformerConfig(hidden_size=32, num_hidden_layers=3, **CONFORMER)
    config._attn_implementation = "eager"
    conformer = part(Wav2Vec2ConformerEncoder(config), "model.conformer.")
    mel = torchaudio.transforms.MelSpectrogram(sample_rate=24_000, n_fft=2048, hop_length=240, n_mels=128)(noise)
    decibel = 10 * torch.log10(mel.clamp(min=1e-10))
    with torch.no_grad():
        return conv((decibel[..., :-1] - MEAN) / STD), conformer


def test_frames_are_those_of_the_published_recipe(recipe, encoder, noise):
    subsampled, conformer = recipe
    with torch.no_grad():
        expected = conformer(subsampled).last_hidden_state
    assert expected.shape == (3, 25, 32)
    assert torch.allclose(encoder.encode(noise), expected[None], atol=1e-5)


def test_layers_are_those_of_the_conformer_run_layer_by_layer(recipe, all_layers, noise):
    subsampled, conformer = recipe
    expected = [subsampled]
    with torch.no_grad():
        positions = conformer.embed_positions(subsampled)
        for layer in conformer.layers:
            output = layer(expected[-1], relative_position_embeddings=positions)
            expected.append(output[0] if TRANSFORMERS_4 else output)
        expected[-1] = conformer.layer_norm(expected[-1])  # only the last passes it
    frames = all_layers.encode(noise)
    assert frames.shape == (4, 3, 25, 32) and frames.dtype == torch.float32
    assert torch.allclose(frames, torch.stack(expected), atol=1e-5)
    assert all((upper - lower).abs().mean() > 0.1 for lower, upper in pairwise(frames))


@pytest.mark.parametrize(
    ("asked", "given"), [((0,), [0]), ((2,), [2]), ((-1, 1), [1, 3]), ((3, 0, -2, 0), [0, 2, 3])], ids=str
)
def test_layers_come_in_ascending_order_and_once(saved, all_layers, noise, asked, given):
    encoder = load_audio_encoder(str(saved), layers=asked)
    assert encoder.layers == tuple(given)
    assert torch.equal(encoder.encode(noise), all_layers.encode(noise)[given])


def test_the_layers_are_part_of_the_identity(saved, encoder):
    def identity(*layers):
        return load_audio_encoder(str(saved), layers=layers).identity()

    assert identity(-1) == identity(3) == identity(3, -1) == encoder.identity()
    assert encoder.identity()["layers"] == "3"
    several = identity(-1, 0, 2)
    assert several["layers"] == "0,2,3"
    assert {key for key, value in several.items() if value != encoder.identity()[key]} == {"layers"}


def test_only_the_layers_asked_for_are_kept(saved, noise, monkeypatch):
    """A hook keeps what enters its layer; the last hidden state needs none."""
    hooked = []
    register = torch.nn.Module.register_forward_pre_hook

    def note_down(module, hook):
        hooked.append(module)
        return register(module, hook)

    monkeypatch.setattr(torch.nn.Module, "register_forward_pre_hook", note_down)
    load_audio_encoder(str(saved)).encode(noise)
    assert hooked == []
    encoder = load_audio_encoder(str(saved), layers=(0, 2, 3))
    encoder.encode(noise)
    assert hooked == [encoder._model.conformer.layers[0], encoder._model.conformer.layers[2]]


def test_no_hook_stays_even_after_an_error(saved, noise, monkeypatch):
    encoder = load_audio_encoder(str(saved), layers=range(4))
    expected = encoder.encode(noise)

    def fail(*_, **__):
        # All hooks are there now: a test that finds none below has looked at the right time.
        assert all(layer._forward_pre_hooks for layer in encoder._model.conformer.layers)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(encoder._model.conformer.layers[1], "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            encoder.encode(noise)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in encoder._model.modules())
    assert torch.equal(encoder.encode(noise), expected)


def test_layers_are_checked_before_weights_are_loaded(folder, monkeypatch):
    (folder / "model.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr("audiomos_cache.encoders.muq.build_muq", lambda _: pytest.fail("built a model"))
    with pytest.raises(ConfigError) as caught:
        load_audio_encoder(str(folder), layers=(4, -1))
    assert str(caught.value) == f"--layers 4: {folder} has layers 0 to 3 (or -4 to -1)"


def test_a_config_without_a_depth_is_of_the_released_models(folder, monkeypatch):
    config = json.loads((folder / "config.json").read_text())
    del config["encoder_depth"]
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(ConfigError) as caught:
        load_audio_encoder("muq", layers=(13,))
    assert str(caught.value) == "--layers 13: muq has layers 0 to 12 (or -13 to -1)"


def test_what_a_loaded_encoder_says_of_itself(saved, encoder):
    assert (encoder.name, encoder.dim, encoder.sample_rate_hz, encoder.untrained) == (str(saved), 32, 24_000, False)
    assert encoder.provenance() == {"source": str(saved), "revision": "local"}
    identity = encoder.identity()
    assert {key: identity[key] for key in ("class", "depth", "attention_heads", "mel_mean", "mel_std", "dim")} == {
        "class": "MuQ", "depth": 3, "attention_heads": 2, "mel_mean": MEAN, "mel_std": STD, "dim": 32
    }  # fmt: skip


def test_the_encoder_is_frozen(encoder, noise):
    before = encoder.encode(noise)
    assert not before.requires_grad
    assert torch.equal(encoder.encode(noise), before)  # no dropout, no drifting statistics


def test_a_clip_has_the_same_frames_alone_and_in_a_batch(all_layers, noise):
    together = all_layers.encode(noise)
    for i in range(3):
        assert torch.allclose(all_layers.encode(noise[i : i + 1])[:, 0], together[:, i], atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(24_000, 25), (23_999, 25), (24_960, 26), (100_000, 104), (720_000, 750), (2048, 2), (2159, 2), (2160, 3)],
)
def test_number_of_frames(encoder, samples, frames):
    assert encoder.frames_for(samples) == frames
    assert encoder.encode(torch.zeros(1, samples)).shape == (1, 1, frames, 32)


def test_the_shortest_clip_has_finite_frames(all_layers, noise):
    assert all_layers.encode(noise[:, : all_layers.min_samples]).isfinite().all()


def test_weights_in_half_precision_are_loaded(folder, encoder, noise):
    change_weights(folder, lambda weights: weights.update({name: t.half() for name, t in weights.items()}))
    halved = load_audio_encoder(str(folder))
    assert halved.encode(noise).dtype == torch.float32
    assert torch.allclose(halved.encode(noise), encoder.encode(noise), atol=0.05)
    assert halved.identity() != encoder.identity()


def test_weights_that_decide_no_frame_are_not_part_of_the_identity(folder, encoder, noise):
    def drop_and_add(weights):
        for name in ("model.linear.weight", "model.cls_token", "model.quantizer_melspec_2048.codebook"):
            del weights[name]
        weights["model.linear.bias"] += 1
        weights["model.rvq.something"] = torch.ones(2)

    change_weights(folder, drop_and_add)
    loaded = load_audio_encoder(str(folder))
    assert loaded.identity() == encoder.identity()
    assert torch.equal(loaded.encode(noise), encoder.encode(noise))


@pytest.mark.parametrize(
    "name", ["model.conv.conv.1.bn2.running_var", "model.conformer.layer_norm.bias", "model.conv.linear.weight"]
)
def test_every_weight_that_decides_a_frame_is_part_of_the_identity(folder, encoder, name):
    change_weights(folder, lambda weights: weights[name].view(-1)[0].add_(1))
    identity = load_audio_encoder(str(folder)).identity()
    assert {key for key, value in identity.items() if value != encoder.identity()[key]} == {"weights_xxh3_128"}


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_act", "gelu"), ("layer_norm_eps", 0.1), ("rotary_embedding_base", 100)]
)
def test_every_setting_that_decides_a_frame_is_part_of_the_identity(folder, encoder, noise, key, value):
    change_config(folder, w2v2_config=CONFORMER | {key: value})
    # A checkpoint may leave the angles of its positions to the config.
    change_weights(folder, lambda weights: weights.pop("model.conformer.embed_positions.inv_freq"))
    changed = load_audio_encoder(str(folder))
    assert not torch.allclose(changed.encode(noise), encoder.encode(noise), atol=1e-3)
    assert {k for k, v in changed.identity().items() if v != encoder.identity()[k]} == {key}


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(EncoderError) as caught:
        load_audio_encoder(str(folder))
    assert str(caught.value) == (
        f"--audio-encoder {folder}: {file} not found; a MuQ folder contains config.json and model.safetensors"
    )


def test_pickled_weights_are_not_read(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"model.conv.linear.bias": torch.zeros(32)}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"model\.safetensors not found; a MuQ folder contains"):
        load_audio_encoder(str(folder))


class Bomb:
    """Fails the test where it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled a file that the config names",)


def test_a_pickle_that_the_config_names_is_not_read(folder, encoder):
    (folder / "rvq.pt").write_bytes(pickle.dumps(Bomb()))
    change_config(folder, use_rvq_target=True, rvq_ckpt_path=str(folder / "rvq.pt"))
    assert load_audio_encoder(str(folder)).identity() == encoder.identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weights: [weights.pop(name) for name in list(weights) if "conformer.layers.2." in name],
            "lacks model.conformer.layers.2.conv_module.batch_norm.bias (33 tensors); expected the weights of a MuQ",
        ),
        (
            lambda weights: weights.update({"model.conformer.layers.3.ffn1.bias": torch.zeros(2)}),
            "holds unknown model.conformer.layers.3.ffn1.bias (1 tensors); expected the weights of a MuQ",
        ),
    ],
    ids=["missing", "foreign"],
)
def test_weights_of_another_depth_are_refused(folder, change, message):
    change_weights(folder, change)
    with pytest.raises(EncoderError) as caught:
        load_audio_encoder(str(folder))
    assert str(caught.value) == f"{folder}/model.safetensors: {message}"


def test_a_tensor_of_another_shape_is_named_with_both_shapes_in_one_line(folder):
    change_weights(folder, lambda weights: weights.update({"model.conv.linear.bias": torch.zeros(3)}))
    with pytest.raises(EncoderError) as caught:
        load_audio_encoder(str(folder))
    assert str(caught.value) == (
        f"{folder}/model.safetensors: model.conv.linear.bias has the shape (3,), expected (32,) by its config"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json: not JSON (Expecting property name"),
        ("[1]", "config.json: not the config of a MuQ, which has encoder_dim, stat, w2v2_config and more"),
        ('{"model_type": "bert", "hidden_size": 768}', "config.json: not the config of a MuQ, which has"),
    ],
    ids=["not JSON", "a list", "of a BERT"],
)
def test_a_config_of_something_else_is_refused(folder, config, message):
    (folder / "config.json").write_text(config)
    with pytest.raises(EncoderError) as caught:
        load_audio_encoder(str(folder))
    assert message in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_length": 480}, "config.json: hop_length is 480, and only 240 can be used"),
        ({"label_rate": 50}, "config.json: label_rate is 50, and only 25 can be used"),
        ({"stat": {"melspec_2048_mean": 1.0}}, "config.json: stat lacks the number melspec_2048_std"),
        ({"w2v2_config": {}}, "not a MuQ that can be loaded: "),
        ({"w2v2_config": [1]}, "not a MuQ that can be loaded: "),
        ({"w2v2_config": CONFORMER | {"hidden_act": "sine"}}, "not a MuQ that can be loaded: "),
        ({"is_flash": True}, "not a MuQ that can be loaded: No module named"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_config_that_cannot_be_used_is_refused(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(EncoderError) as caught:
        load_audio_encoder(str(folder))
    assert message in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("keep", [slice(0, -100), slice(0, 0), slice(0, 5)], ids=["truncated", "empty", "5 bytes"])
def test_damaged_weights_are_refused(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[keep])
    with pytest.raises(EncoderError, match="not a MuQ that can be loaded: Error while deserializing header"):
        load_audio_encoder(str(folder))


def test_without_a_network_a_cache_that_another_tool_filled_will_do(folder, offline):
    expected = load_audio_encoder(str(folder)).identity()
    (folder / "README.md").write_text("")
    fill_cache(folder, offline, HUB_ID, without={"README.md"})
    found = load_audio_encoder("muq")
    assert found.identity() == expected
    assert found.provenance() == {"source": HUB_ID, "revision": COMMIT}


def test_without_a_network_a_cache_without_weights_is_refused(folder, offline):
    fill_cache(folder, offline, HUB_ID, without={"model.safetensors"})
    with pytest.raises(
        EncoderError, match=rf"^--audio-encoder {HUB_ID}: .*(IncompleteSnapshotError|model.safetensors)"
    ):
        load_audio_encoder("muq")
