import itertools

import pytest
import torch
import yaml

from audiomos_cache.batch import check_masks
from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.presets import load_head_config, preset_names, presets_folder
from audiomos_cache.upstream.quirks import UnmaskedPooling

AUDIO_DIM, TEXT_DIM = 32, 24
COLUMNS = ("mi", "ta", "mi_dist", "ta_dist", "mi_logits", "ta_logits")

# Their gradient is zero by construction: a softmax does not see what is added to all of its inputs, and the recurrent
# weights of one step from a zero state see only zeros.
WITHOUT_GRADIENT = ("pooling.weight.bias", "lstm.weight_hh_l0")


@pytest.fixture(params=preset_names())
def preset(request):
    return request.param


def output_kind(preset):
    return load_head_config(preset)[1].output.kind


def tiny(preset, randomise=lambda head: head):
    torch.manual_seed(0)
    return randomise(build_head(preset, AUDIO_DIM, TEXT_DIM)).eval()


def assert_equal_rows(output, i, expected, j, atol=1e-5):
    """Compare row i of one output with row j of another, in all columns of a head's output."""
    for column in COLUMNS:
        got, right = getattr(output, column), getattr(expected, column)
        assert (got is None) == (right is None), column
        if got is not None:
            assert got[i].isfinite().all() and torch.allclose(got[i], right[j], atol=atol, rtol=0), column


def test_shapes(preset, make_clips):
    output = tiny(preset)(*make_clips([7, 3, 5], [4, 6, 1]))
    kind = output_kind(preset)
    assert output.mi.shape == output.ta.shape == (3,)
    assert output.mi.dtype == torch.float32
    for dist in (output.mi_dist, output.ta_dist):
        if kind == "distribution":
            assert dist.shape == (3, 20)
            assert torch.allclose(dist.sum(dim=1), torch.ones(3), atol=1e-6) and (dist >= 0).all()
        else:
            assert dist is None
    for logits in (output.mi_logits, output.ta_logits):
        assert logits.shape == (3, 4) if kind == "coral" else logits is None


def test_a_clip_has_the_same_scores_alone_and_in_a_padded_batch(preset, make_clips, randomise):
    head, clips = tiny(preset, randomise), make_clips([40, 9, 1, 23], [3, 12, 7, 1])
    with torch.no_grad():
        together = head(*clips)
        for i in range(4):
            assert_equal_rows(together, i, head(*clips.row(i)), 0)
    assert together.mi.std() > 1e-3 and together.ta.std() > 1e-3  # the clips differ


def test_permuting_the_batch_permutes_the_output(preset, make_clips, randomise):
    head, clips, order = tiny(preset, randomise), make_clips([40, 9, 1, 23], [3, 12, 7, 1]), [2, 0, 3, 1]
    with torch.no_grad():
        output, permuted = head(*clips), head(*clips.permuted(order))
    for i, j in enumerate(order):
        assert_equal_rows(permuted, i, output, j)


def test_the_order_of_the_frames_counts_where_there_is_a_temporal_layer(preset, make_clips, randomise):
    head, clips = tiny(preset, randomise), make_clips([20], [5])
    with torch.no_grad():
        forward = head(*clips)
        clips.frames = clips.frames.flip(1)
        backward = head(*clips)
    same = load_head_config(preset)[1].temporal.kind == "none"
    assert torch.allclose(forward.mi, backward.mi, atol=1e-5) == same


def test_the_prompt_counts_for_ta_alone(preset, make_clips, randomise):
    head, clips = tiny(preset, randomise), make_clips([20], [5])
    with torch.no_grad():
        before = head(*clips)
        clips.tokens = clips.tokens + 1
        after = head(*clips)
    assert torch.equal(before.mi, after.mi)
    assert not torch.allclose(before.ta, after.ta, atol=1e-4)


def test_a_clip_of_one_frame_has_finite_scores_and_gradients(preset, make_clips):
    head = tiny(preset).train()
    output = head(*make_clips([1], [1]))
    (output.mi + output.ta).sum().backward()
    assert output.mi.isfinite().all() and output.ta.isfinite().all()
    for name, parameter in head.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_every_parameter_gets_a_gradient(preset, make_clips, randomise):
    head = tiny(preset, randomise)
    output = head(*make_clips([7, 3, 5], [4, 6, 2]))
    (output.mi + output.ta).sum().backward()
    gradients = {name: parameter.grad for name, parameter in head.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    zero = [name for name, gradient in gradients.items() if gradient.abs().max() < 1e-6]
    assert [name for name in zero if not name.endswith(WITHOUT_GRADIENT)] == []


def test_mi_and_ta_share_only_the_temporal_layer(preset, make_clips, randomise):
    head = tiny(preset, randomise)
    head(*make_clips([7, 3], [4, 6])).ta.sum().backward()
    moved = {name.split(".")[0] for name, parameter in head.named_parameters() if parameter.grad is not None}
    config = load_head_config(preset)[1]
    shared = config.temporal.kind != "none" and config.text_audio.kind != "decoupled"
    assert moved == ({"text_audio", "ta", "temporal"} if shared else {"text_audio", "ta"})


def test_features_in_half_precision_move_a_score_by_less_than_two_thousandths(preset, make_clips, randomise):
    """Also where a few channels are far from the others, as RoBERTa's are, and so are stored more coarsely."""
    head = build_head(preset).eval()
    randomise(head, scale=0.02)
    for outlier in (0.0, 20.0):
        clips = make_clips([60, 60, 60], [12, 12, 12], audio_dim=1024, text_dim=768)
        clips.frames[..., :3] += outlier
        clips.tokens[..., :2] -= outlier
        with torch.no_grad():
            full = head(*clips)
            clips.frames, clips.tokens = clips.frames.half().float(), clips.tokens.half().float()
            rounded = head(*clips)
        for exact, near in ((full.mi, rounded.mi), (full.ta, rounded.ta)):
            assert 0 < (exact - near).abs().max() < 0.002, f"outliers of {outlier}"


def test_dropout_is_on_in_training_alone(preset, make_clips, randomise):
    head, clips = tiny(preset, randomise), make_clips([20], [5])
    with torch.no_grad():
        assert torch.equal(head(*clips).ta, head(*clips).ta)
        head.train()
        assert not torch.equal(head(*clips).ta, head(*clips).ta)


@pytest.mark.parametrize(("which", "word"), [("frame_mask", "frame"), ("token_mask", "token")])
def test_a_clip_without_anything_valid_is_refused(make_clips, which, word):
    clips = make_clips([7, 3, 5], [4, 6, 2])
    getattr(clips, which)[1] = False
    with pytest.raises(ValueError) as caught:
        check_masks(clips)
    assert str(caught.value) == f"row 1 of the batch has no valid {word}; every clip needs at least one"


def test_weights_depend_on_the_seed_alone(preset):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build_head(preset, AUDIO_DIM, TEXT_DIM).parameters()])

    assert torch.equal(weights(1984), weights(1984))
    assert not torch.equal(weights(1984), weights(1990))


def all_configs():
    """Every way to put a head together."""
    temporals = ("transformer", "bilstm", "none")
    poolings = ("attentive", "mean", "mean_std")
    fusions = ("cross_attention", "decoupled", "concat", "none")
    downstreams = ("mlp", "lstm")
    outputs = ("scalar", "distribution", "coral")
    for temporal, pooling, fusion, downstream, output in itertools.product(
        temporals, poolings, fusions, downstreams, outputs
    ):
        if fusion == "decoupled" and temporal == "none":
            continue  # refused: see test_config.py
        layers = {} if temporal == "none" else {"layers": 2}
        looking = {"heads": 2} if fusion in ("cross_attention", "decoupled") else {}
        yield HeadConfig.model_validate(
            {
                "temporal": {"kind": temporal} | layers | ({"heads": 2} if temporal == "transformer" else {}),
                "pooling": pooling,
                "text_audio": {"kind": fusion} | looking,
                "downstream": downstream,
                "output": {"kind": output},
            }
        )


def test_every_combination_of_parts_is_a_head(make_clips):
    """Builds, runs, trains, and keeps a clip's scores alone and padded, down to a clip of one frame."""
    clips = make_clips([6, 1], [1, 4], audio_dim=8, text_dim=6)
    combinations = 0
    for config in all_configs():
        head = build_head(config, audio_dim=8, text_dim=6).eval()
        together = head(*clips)
        for i in range(2):
            assert_equal_rows(together, i, head(*clips.row(i)), 0)
        (together.mi + together.ta).sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), (config, name)
        combinations += 1
    assert combinations == 3 * 3 * 4 * 2 * 3 - 3 * 2 * 3


def test_what_is_set_reaches_the_parts():
    settings = {
        "temporal": {"kind": "transformer", "layers": 3, "heads": 2, "feedforward": 512},
        "pooling": "mean_std",
        "text_audio": {"kind": "cross_attention", "common_dim": 256, "heads": 8},
        "output": {"kind": "distribution", "bins": 7},
        "dropout": 0.15,
    }
    head = build_head(HeadConfig.model_validate(settings), audio_dim=64, text_dim=TEXT_DIM)
    shapes = {name: tuple(parameter.shape) for name, parameter in head.named_parameters()}
    assert len(head.temporal.layers) == 3
    assert all(layer.attention.heads == 2 for layer in head.temporal.layers)
    assert shapes["temporal.layers.2.linear1.weight"] == (32, 64)  # 512 * 64 / 1024
    assert shapes["text_audio.audio_projection.weight"] == (16, 64)  # 256 * 64 / 1024
    assert shapes["text_audio.text_projection.weight"] == (16, TEXT_DIM)
    assert head.text_audio.attention.heads == 8
    assert shapes["mi.0.layers.0.weight"] == (32, 2 * 64) and shapes["ta.0.layers.0.weight"] == (24, 2 * 16)
    assert shapes["mi.1.linear.weight"] == (7, 16) and shapes["ta.1.linear.weight"] == (7, 12)
    assert {module.p for module in head.modules() if isinstance(module, torch.nn.Dropout)} == {0.15}


@pytest.mark.parametrize("layers", [1, 3])
def test_the_layers_that_are_set_reach_a_bilstm(layers):
    config = HeadConfig.model_validate({"temporal": {"kind": "bilstm", "layers": layers}})
    lstm = build_head(config, AUDIO_DIM, TEXT_DIM).temporal.lstm
    assert (lstm.num_layers, lstm.dropout) == (layers, 0.3 if layers > 1 else 0)


def test_attention_heads_that_do_not_divide_the_frames_are_refused():
    config = HeadConfig.model_validate({"temporal": {"heads": 3}})
    with pytest.raises(ConfigError) as caught:
        build_head(config, AUDIO_DIM, TEXT_DIM)
    assert str(caught.value) == "temporal.heads: 3 does not divide 32, the width of the frames"


def test_a_transformer_over_frames_of_odd_width_is_refused():
    config = HeadConfig.model_validate({"temporal": {"heads": 3}})
    with pytest.raises(ConfigError) as caught:
        build_head(config, 33, TEXT_DIM)
    assert str(caught.value) == (
        "temporal.kind: 'transformer' adds positions of sines and cosines in pairs, and the frames are 33 wide, an odd "
        "number; use bilstm or none"
    )


def test_a_head_is_built_from_a_presets_name_a_file_its_keys_or_a_config():
    path = presets_folder() / "pooling-dist.yaml"
    keys = yaml.safe_load(path.read_text())
    heads = ("pooling-dist", str(path), path, keys, load_head_config("pooling-dist")[1])
    built = []
    for head in heads:
        torch.manual_seed(0)
        built.append(build_head(head, AUDIO_DIM, TEXT_DIM).state_dict())
    for other in built[1:]:
        assert list(built[0]) == list(other)
        assert all(torch.equal(built[0][name], other[name]) for name in other)
    assert keys == yaml.safe_load(path.read_text()), "unchanged"


def test_keys_are_validated_as_a_files():
    with pytest.raises(ConfigError) as caught:
        build_head({"temporal": {"kind": "none", "heads": 2}, "pool": "mean"})
    assert str(caught.value) == ("the head's config: temporal.heads: unknown key; none has no keys; pool: unknown key")
    with pytest.raises(ConfigError, match=r"^head: found int, expected a preset's name, a \.yaml file, its ke"):
        build_head(3)


def test_the_fourth_argument_is_compat():
    assert isinstance(build_head("transformer-dist", AUDIO_DIM, TEXT_DIM, "upstream").pooling, UnmaskedPooling)
    with pytest.raises(ConfigError, match="compat: 3 is not one of none, upstream"):
        build_head("transformer-dist", AUDIO_DIM, TEXT_DIM, 3)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="--head transformer-dits: preset not found; known are cross-"):
        build_head("transformer-dits")


@pytest.mark.parametrize(
    ("group", "kind", "changed"),
    [
        *(("temporal", "transformer", changed) for changed in ({"layers": 2}, {"heads": 2}, {"feedforward": 64})),
        ("temporal", "bilstm", {"layers": 2}),
        *(("text_audio", kind, {"common_dim": 64}) for kind in ("cross_attention", "decoupled", "concat", "none")),
        *(("text_audio", kind, {"heads": 1}) for kind in ("cross_attention", "decoupled")),
        ("output", "distribution", {"bins": 9}),
    ],
)
def test_a_head_depends_on_each_key_of_its_kinds(group, kind, changed, make_clips):
    """The width 20 makes a common width that 4 does not divide."""
    clips = make_clips([5, 3], [2, 4], audio_dim=20)

    def scores(settings):
        torch.manual_seed(0)
        head = build_head(HeadConfig.model_validate({group: {"kind": kind, **settings}}), 20, TEXT_DIM).eval()
        out = head(*clips)
        return torch.cat((out.mi, out.ta))

    assert not torch.equal(scores({}), scores(changed))


@pytest.mark.parametrize("text_audio", ["cross_attention", "decoupled", "concat", "none"])
@pytest.mark.parametrize("pooling", ["attentive", "mean_std"])
def test_a_bilstm_over_frames_of_odd_width(text_audio, pooling, make_clips):
    """Two directions make an even width, and what follows is as wide as they are."""
    config = HeadConfig.model_validate({"temporal": {"kind": "bilstm"}, "pooling": pooling, "text_audio": text_audio})
    clips = make_clips([6, 1], [1, 4], audio_dim=9)
    head = build_head(config, 9, TEXT_DIM).eval()
    assert head.temporal(clips.frames, clips.frame_mask).shape == (2, 6, head.temporal.output_size) == (2, 6, 8)
    out = head(*clips)
    assert out.mi.isfinite().all() and out.ta.isfinite().all()
