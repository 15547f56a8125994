import pytest

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import HeadConfig, scaled_lr, settable_keys
from audiomos_cache.heads.parts import scaled
from audiomos_cache.heads.presets import load_head_config, preset_names, presets_folder, with_compat
from tests.support.heads import message_of

# What DeRA-MOS and QAMRO publish: DeRA-MOS's weights, and each kind's own keys.
RANKING = {
    "weight_mi": 0.01,
    "weight_ta": 0.0,
    "temperature": 1.0,
    "margin": 0.0,
    "tolerance": 0.25,
    "margin_scale": 0.2,
    "preference": 7.0,
}


@pytest.mark.parametrize("width", [256, 384, 512, 768, 2048])
def test_at_the_published_width_nothing_is_scaled(width):
    assert scaled(width, 1024) == width
    assert scaled(width, 1024, multiple_of=4) == width


@pytest.mark.parametrize(
    ("width", "audio_dim", "multiple_of", "result"),
    [(2048, 128, 1, 256), (768, 128, 4, 96), (384, 128, 1, 48), (512, 1, 1, 1), (768, 4, 4, 4), (768, 10, 4, 8)],
)
def test_widths_are_scaled_by_hand(width, audio_dim, multiple_of, result):
    assert scaled(width, audio_dim, multiple_of) == result


def test_the_learning_rate_grows_as_the_frames_get_narrower():
    assert scaled_lr(5e-5, 1024) == 5e-5
    assert scaled_lr(5e-5, 128) == pytest.approx(4e-4)


def test_a_config_cannot_be_changed():
    _, config = load_head_config("transformer-dist")
    with pytest.raises(ValueError, match="frozen"):
        config.dropout = 0.5


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("poling: mean", "poling: unknown key"),
        ("temporal: {layer: 2}", "temporal.layer: unknown key; transformer has layers, heads, feedforward"),
        ("pooling: atention", "pooling: 'atention' is not one of attentive, mean, mean_std"),
        ("temporal: {kind: lstm}", "temporal.kind: 'lstm' is not one of bilstm, transformer, none"),
        ("temporal: {layers: 0}", "temporal.layers: 0: input should be greater than or equal to 1"),
        ("temporal: {layers: 1.5}", "temporal.layers: 1.5: input should be a valid integer, got a number with a "
         "fractional part"),
        ("dropout: 1", "dropout: 1: input should be less than 1"),
        ("output: {bins: 30000000}", "output.bins: 30000000: input should be less than or equal to 1000"),
        ("temporal: {layers: 99999999999}", "temporal.layers: 99999999999: input should be less than or equal to 64"),
        ("output: {bins: 1}", "output.bins: 1: input should be greater than or equal to 2"),
        ("output: {loss: {sigma: 0}}", "output.loss.sigma: 0: input should be greater than or equal to 0.001"),
        ("training: {lr: '1_0'}", "training.lr: '1_0': input should be a number"),
        ("dropout: '\u0661'", "dropout: '\u0661': input should be a number"),
        ("training: {lr: fast}", "training.lr: 'fast': input should be a valid number, unable to parse string as a "
         "number"),
        ("training: {patience: }", "training.patience: None: input should be a valid integer"),
        ("temporal: lstm", "temporal: 'lstm' is not one of bilstm, transformer, none"),
        ("temporal: 3", "temporal: 3 is not one of transformer, bilstm, none"),
        ("pooling: {kind: [mean]}", "pooling.kind: ['mean'] is not one of attentive, mean, mean_std"),
        ("training: 3", "training: 3 is a value, expected keys such as training.lr"),
        ("output: {kind: coral, ranks: 5}", "output.ranks: unknown key; coral has loss"),
        ("output: {loss: rater}", "output.loss: 'rater' is not one of raters, gaussian, one_hot"),
        ("output: {kind: scalar, loss: l2}", "output.loss: 'l2' is not one of l1, mse"),
        ("output: {kind: coral, loss: mse}", "output.loss: 'mse' is not one of coral"),
        ("ranking: {kind: list}", "ranking.kind: 'list' is not one of listwise, none, pairwise, adaptive_margin"),
        (
            "ranking: {kind: listwise, weight: 1}",
            "ranking.weight: unknown key; listwise has weight_mi, weight_ta, temperature",
        ),
        *((f"ranking: {{kind: {kind}, {key}: {wrong}}}", f"ranking.{key}: {wrong}: input should be greater than {than}")
          for kind, key, wrong, than in (
              ("listwise", "weight_mi", -0.1, "or equal to 0"), ("listwise", "weight_ta", -1, "or equal to 0"),
              ("listwise", "temperature", 0, "0"), ("pairwise", "margin", -1, "or equal to 0"),
              ("pairwise", "tolerance", -1, "or equal to 0"), ("adaptive_margin", "margin_scale", -1, "or equal to 0"),
              ("adaptive_margin", "preference", 0, "0"))),
        ("training: {clip_norm: -1}", "training.clip_norm: -1: input should be greater than or equal to 0"),
        ("training: {decay: biases}", "training.decay: 'biases' is not one of all, matrices"),
        ("training: {schedule: linear}", "training.schedule: 'linear' is not one of constant, cosine"),
        ("training: {warmup_epochs: -1}", "training.warmup_epochs: -1: input should be greater than or equal to 0"),
        ("training: {feature_mixup: -0.1}", "training.feature_mixup: -0.1: input should be greater than or equal to 0"),
        ("temporal: {kind: none, layers: 7}", "temporal.layers: unknown key; none has no keys"),
        ("temporal: {kind: lstm, layers: 7}", "temporal.kind: 'lstm' is not one of bilstm, transformer, none"),
        *((f"layers: {wrong}", f"layers: {shown} is not one of only, weighted, or a layer's number")
          for wrong, shown in (("foo", "'foo'"), ("9.5", "9.5"), ("yes", "'yes'"), ("true", "True"), ("", "None"),
                               ("[6, 9]", "[6, 9]"), ("'9'", "'9'"))),
        ("compat: original", "compat: 'original' is not one of none, upstream"),
        ("layers: -1", "layers: -1: layers are not counted from the end; give a number that the cache holds"),
    ],
)  # fmt: skip
def test_a_problem_is_named_by_its_key(yaml_file, content, problem):
    path = yaml_file(content)
    assert message_of(path) == f"{path}: {problem}"


def test_decoupled_without_a_temporal_layer_is_refused(yaml_file):
    path = yaml_file("temporal: {kind: none}\ntext_audio: {kind: decoupled}")
    assert message_of(path) == (
        f"{path}: text_audio.kind: 'decoupled' looks past the temporal layer, and temporal.kind is 'none'; "
        "use 'cross_attention'"
    )


RATERS = "listeners rate in whole numbers from 1 to 5, and output.loss is 'raters'; use 5"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("output: {loss: raters}", f"output.bins: 20: {RATERS}"),
        ("output: {loss: raters, bins: 9}", f"output.bins: 9: {RATERS}"),
        ("ranking: {kind: listwise, weight_mi: 0}", "ranking.kind: 'listwise' has no effect where both weights are 0"),
        ("ranking: {kind: pairwise}\ntraining: {batch_size: 1}",
         "ranking.kind: 'pairwise' has no effect where training.batch_size is 1"),
        ("ranking: {kind: listwise}\ntraining: {feature_mixup: 0.2}",
         "ranking.kind: 'listwise' has no effect where training.feature_mixup is 0.2: mixed clips are not ranked, and "
         "every batch is mixed"),
        ("training: {batch_size: 1, feature_mixup: 0.2}",
         "training.feature_mixup: 0.2 has no effect where training.batch_size is 1"),
        ("training: {decay: matrices, weight_decay: 0}",
         "training.decay: 'matrices' has no effect where training.weight_decay is 0"),
        ("training: {warmup_epochs: 3, max_epochs: 3}",
         "training.warmup_epochs: 3.0: expected less than training.max_epochs, 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_together_is_refused(yaml_file, content, problem):
    path = yaml_file(content)
    assert message_of(path) == f"{path}: {problem}"


def test_all_that_cannot_be_together_is_reported_at_once(yaml_file):
    path = yaml_file("output: {loss: raters}\nranking: {kind: pairwise, weight_mi: 0}")
    assert message_of(path) == (
        f"{path}: output.bins: 20: {RATERS}; ranking.kind: 'pairwise' has no effect where both weights are 0"
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ("output.loss.kind=raters", "output.bins=5"),
        ("ranking.kind=listwise", "ranking.weight_mi=0.0", "ranking.weight_ta=0.1"),
        ("ranking.kind=adaptive_margin", "ranking.preference=2.0"),
        ("training.feature_mixup=0.4",),
        ("training.schedule=cosine", "training.warmup_epochs=0.5", "training.decay=matrices", "training.clip_norm=1.0"),
        ("training.batch_size=1", "ranking.kind=none", "training.feature_mixup=0.0"),
    ],
)
def test_what_goes_together_is_taken(overrides):
    written = load_head_config("transformer-dist", overrides)[1].model_dump()
    for key, _, value in (override.partition("=") for override in overrides):
        group, _, name = key.partition(".")
        found = written[group]
        for inner in name.split("."):
            found = found[inner]
        assert str(found) == value


UPSTREAM_PRESETS = ("decoupled-dist", "decoupled-lstm-dist", *preset_names()[-4:])
UPSTREAM_HEADS = (
    "cross_attention+mlp+scalar, cross_attention+mlp+distribution, cross_attention+mlp+coral, "
    "decoupled+mlp+distribution, decoupled+lstm+distribution"
)


def absent(key, found, use):
    return f"{key}: {found} is not in the published code, which compat: upstream reproduces; use {use}"


def absent_head(found):
    return absent("text_audio.kind+downstream+output.kind", found, UPSTREAM_HEADS)


@pytest.mark.parametrize("preset", UPSTREAM_PRESETS)
def test_the_published_heads_can_be_as_published(preset):
    assert load_head_config(preset)[1].compat == "none"
    _, config = load_head_config(preset, ("compat=upstream",))
    assert config.compat == "upstream"
    assert with_compat(config, "none") == load_head_config(preset)[1]


@pytest.mark.parametrize(
    ("preset", "overrides", "problems"),
    [
        (
            "pooling-dist",
            (),
            (absent("temporal.kind", "'none'", "transformer"), absent_head("concat+mlp+distribution")),
        ),
        ("cross-attention-dist", (), (absent("temporal.kind", "'none'", "transformer"),)),
        ("transformer-dist", ("temporal.kind=bilstm",), (absent("temporal.kind", "'bilstm'", "transformer"),)),
        (
            "transformer-dist",
            ("pooling=mean_std", "layers=weighted"),
            (absent("layers", "'weighted'", "only, or a layer's number"), absent("pooling", "'mean_std'", "attentive")),
        ),
        ("transformer-dist", ("text_audio.kind=none",), (absent_head("none+mlp+distribution"),)),
        ("transformer-coral", ("downstream=lstm", "text_audio.kind=decoupled"), (absent_head("decoupled+lstm+coral"),)),
        (
            "decoupled-dist",
            ("temporal.kind=none",),
            (
                absent("temporal.kind", "'none'", "transformer"),
                "text_audio.kind: 'decoupled' looks past the temporal layer, and temporal.kind is 'none'; "
                "use 'cross_attention'",
            ),
        ),
    ],
)
def test_what_the_published_code_does_not_have_is_refused_with_all_reasons(preset, overrides, problems):
    load = (*overrides, "compat=upstream")
    path = presets_folder() / f"{preset}.yaml"
    assert message_of(preset, *load) == f"{path} with {' '.join(load)}: {'; '.join(problems)}"


def test_what_the_published_code_does_not_have_is_refused_later_too():
    config = load_head_config("transformer-dist", ("pooling=mean",))[1]
    with pytest.raises(ConfigError) as caught:
        with_compat(config, "upstream")
    assert str(caught.value) == absent("pooling", "'mean'", "attentive")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.max_epochs=true", "True: input should be a number"),
        ("dropout=false", "False: input should be a number"),
        ("training.lr=yes", "'yes': input should be a valid number, unable to parse string as a number"),
        ("training.lr=2024-13-45", "'2024-13-45': input should be a valid number, unable to parse string as a number"),
        ("pooling=on", "'on' is not one of attentive, mean, mean_std"),
        ("pooling=true", "True is not one of attentive, mean, mean_std"),
        ("output.loss.sigma=1e-160", "'1e-160': input should be greater than or equal to 0.001"),
    ],
)
def test_what_is_no_number_is_not_taken_for_one(override, problem):
    path, key = presets_folder() / "transformer-dist.yaml", override.partition("=")[0]
    assert message_of("transformer-dist", override) == f"{path} with {override}: {key}: {problem}"


def test_all_problems_are_reported_at_once(yaml_file):
    path = yaml_file("pooling: max\nextra: 1\ntemporal: {heads: 0}\ntraining: {lr: -1}")
    message = message_of(path)
    assert message.startswith(f"{path}: ")
    assert sorted(message.removeprefix(f"{path}: ").split("; ")) == [
        "extra: unknown key",
        "pooling: 'max' is not one of attentive, mean, mean_std",
        "temporal.heads: 0: input should be greater than or equal to 1",
        "training.lr: -1: input should be greater than 0",
    ]


@pytest.mark.parametrize(("value", "layers"), [("only", "only"), ("weighted", "weighted"), ("9", 9), ("0", 0)])
def test_layers_are_only_weighted_or_a_number(value, layers):
    _, config = load_head_config("transformer-dist", (f"layers={value}",))
    assert config.layers == layers and type(config.layers) is type(layers)
    assert HeadConfig.model_validate(config.model_dump()) == config


def test_a_wrong_layer_is_reported_beside_all_other_problems(yaml_file):
    path = yaml_file("layers: last\ndropout: 1")
    assert message_of(path) == (
        f"{path}: layers: 'last' is not one of only, weighted, or a layer's number; "
        "dropout: 1: input should be less than 1"
    )


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("listwise", ["temperature"]),
        ("pairwise", ["margin", "tolerance"]),
        ("adaptive_margin", ["margin_scale", "preference"]),
    ],
)
def test_a_ranking_takes_its_own_keys_and_no_others(yaml_file, kind, own):
    known = ["weight_mi", "weight_ta", *own]
    for key in RANKING:
        path = yaml_file(f"ranking: {{kind: {kind}, {key}: 0.5}}")
        if key in known:
            assert getattr(load_head_config(path)[1].ranking, key) == 0.5
        else:
            assert message_of(path) == f"{path}: ranking.{key}: unknown key; {kind} has {', '.join(known)}"


@pytest.mark.parametrize("name", ["none", "bilstm"])
def test_a_part_is_its_name_or_keys(yaml_file, name):
    unchanged, keys = (load_head_config(yaml_file(f"temporal: {given}"))[1] for given in (name, f"{{kind: {name}}}"))
    assert unchanged == keys and unchanged.temporal.kind == name


def test_the_keys_that_can_be_set():
    keys = [(key, type_, default, kinds) for key, type_, default, _, kinds in settable_keys()]
    for expected in (
        ("temporal.kind", "transformer|bilstm|none", "transformer", ()),
        ("temporal.layers", "int", 1, ("transformer", "bilstm")),
        ("temporal.heads", "int", 4, ("transformer",)),
        ("text_audio.common_dim", "int", 768, ()),
        ("training.lr", "float", 5e-5, ()),
        ("pooling", "attentive|mean|mean_std", "attentive", ()),
        ("layers", "only|weighted|int", "only", ()),
        ("output.loss", "l1|mse", "l1", ("scalar",)),
        ("output.loss", "gaussian|one_hot|raters", "gaussian", ("distribution",)),
        ("output.loss.sigma", "float", 0.25, ("gaussian",)),
        ("ranking.kind", "none|listwise|pairwise|adaptive_margin", "none", ()),
        ("training.feature_mixup", "float", 0.0, ()),
        ("compat", "none|upstream", "none", ()),
    ):
        assert expected in keys
    assert len(keys) == len(set(keys)) == 36
    [mixup] = [each for each in settable_keys() if each.key == "training.feature_mixup"]
    assert "mixes cached frames, not waveforms" in mixup.description


def test_each_default_can_be_set_for_its_kind():
    """`kinds` are of the part that the key belongs to: `output` for `output.loss`, the loss for what is inside it."""
    for key, _, default, _, kinds in settable_keys():
        group = key.rpartition(".")[0]
        outputs = {"gaussian": "distribution"}
        for kind in kinds or [None]:
            chosen = [] if kind is None else [f"{group}.kind={kind}"]
            if group == "output.loss":
                chosen.insert(0, f"output.kind={outputs[kind]}")
            changed = load_head_config("transformer-dist", (*chosen, f"{key}={default}"))[1]
            assert changed == load_head_config("transformer-dist", tuple(chosen))[1], key
