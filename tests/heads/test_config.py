import pytest
import yaml

from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.config import HeadConfig, scaled_lr
from audiomos_cache.heads.parts import scaled
from audiomos_cache.heads.presets import load_head_config, preset_names, presets_folder, with_compat
from audiomos_cache.heads.settable import settable_keys

PRESETS = [
    "cross-attention-dist",
    "decoupled-dist",
    "decoupled-lstm-dist",
    "pooling-dist",
    "transformer-coral",
    "transformer-dist",
    "transformer-onehot",
    "transformer-scalar",
]

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


@pytest.fixture
def yaml_file(tmp_path):
    def write(content):
        path = tmp_path / "mine.yaml"
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write


def message_of(head, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_head_config(head, overrides)
    return str(caught.value)


def test_the_presets_are_found():
    assert preset_names() == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_under_its_name(name):
    loaded, config = load_head_config(name)
    assert loaded == name
    assert isinstance(config, HeadConfig)


# Temporal, text_audio, downstream, output, loss.
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("cross-attention-dist", ("none", "cross_attention", "mlp", "distribution", "gaussian")),
        ("decoupled-dist", ("transformer", "decoupled", "mlp", "distribution", "gaussian")),
        ("decoupled-lstm-dist", ("transformer", "decoupled", "lstm", "distribution", "gaussian")),
        ("pooling-dist", ("none", "concat", "mlp", "distribution", "gaussian")),
        ("transformer-coral", ("transformer", "cross_attention", "mlp", "coral", "coral")),
        ("transformer-dist", ("transformer", "cross_attention", "mlp", "distribution", "gaussian")),
        ("transformer-onehot", ("transformer", "cross_attention", "mlp", "distribution", "one_hot")),
        ("transformer-scalar", ("transformer", "cross_attention", "mlp", "scalar", "l1")),
    ],
)
def test_a_preset_is_what_its_name_says(name, parts):
    _, config = load_head_config(name)
    found = (
        config.temporal.kind,
        config.text_audio.kind,
        config.downstream,
        config.output.kind,
        config.output.loss.kind,
    )
    assert found == parts
    assert config.pooling.kind == "attentive"


def test_the_published_numbers():
    _, config = load_head_config("transformer-dist")
    assert config.model_dump() == {
        "layers": "only",
        "temporal": {"kind": "transformer", "layers": 1, "heads": 4, "feedforward": 2048},
        "pooling": {"kind": "attentive"},
        "text_audio": {"kind": "cross_attention", "common_dim": 768, "heads": 4},
        "downstream": "mlp",
        "output": {"kind": "distribution", "bins": 20, "loss": {"kind": "gaussian", "sigma": 0.25}},
        "ranking": {"kind": "none"},
        "dropout": 0.3,
        "compat": "none",
        "training": {
            "lr": 5e-5, "weight_decay": 0.01, "batch_size": 32, "max_epochs": 100, "patience": 15, "feature_mixup": 0.0,
            "clip_norm": 0.0, "decay": "all", "schedule": "constant", "warmup_epochs": 0.0
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_not_published_is_off_in_every_preset(name):
    _, config = load_head_config(name)
    assert (config.ranking.kind, config.training.feature_mixup) == ("none", 0)
    training = config.training
    assert (training.clip_norm, training.decay, training.schedule, training.warmup_epochs) == (0, "all", "constant", 0)
    assert config.output.loss.kind in ("l1", "gaussian", "one_hot", "coral")


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


def test_an_unknown_preset_is_refused_with_the_known_ones():
    assert message_of("transformer-dits") == (
        f"--head transformer-dits: no such preset; known are {', '.join(PRESETS)}, or give a .yaml file"
    )


def test_a_file_of_ones_own_is_named_by_its_stem(yaml_file):
    name, config = load_head_config(yaml_file("pooling: mean_std\noutput: {bins: 9}\n"))
    assert name == "mine"
    assert config.pooling.kind == "mean_std" and config.output.bins == 9
    assert config.temporal == load_head_config("transformer-dist")[1].temporal  # what it leaves out


def test_a_config_cannot_be_changed():
    _, config = load_head_config("transformer-dist")
    with pytest.raises(ValueError, match="frozen"):
        config.dropout = 0.5


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "nowhere.yaml"
    assert message_of(str(path)) == f"{path}: cannot be read as YAML: [Errno 2] No such file or directory: '{path}'"


@pytest.mark.parametrize(
    ("content", "found"), [("[1, 2]", "list"), ("just words", "str"), ("", "NoneType"), ("3.5", "float")]
)
def test_yaml_that_is_no_mapping_is_refused(yaml_file, content, found):
    path = yaml_file(content)
    assert message_of(path) == f"{path}: found {found}, expected keys such as temporal, pooling, output"


@pytest.mark.parametrize("content", ["pooling: [", "a: b: c", "!!python/object/apply:os.getcwd []", "pooling: &a [*b]"])
def test_yaml_that_cannot_be_read_is_refused_in_one_line(yaml_file, content):
    path = yaml_file(content)
    message = message_of(path)
    assert message.startswith(f"{path}: cannot be read as YAML: ") and "\n" not in message


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert message_of(str(path)).startswith(f"{path}: cannot be read as YAML: ")


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
        ("output: {bins: 1}", "output.bins: 1: input should be greater than or equal to 2"),
        ("output: {loss: {sigma: 0}}", "output.loss.sigma: 0: input should be greater than or equal to 0.001"),
        ("output: {loss: {sigma: .inf}}", "output.loss.sigma: inf: input should be a finite number"),
        ("training: {lr: .nan}", "training.lr: nan: input should be a finite number"),
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


UPSTREAM_PRESETS = ("decoupled-dist", "decoupled-lstm-dist", *PRESETS[-4:])
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


def test_a_key_that_is_there_twice_is_refused(yaml_file):
    path = yaml_file("training: {lr: 1}\ndropout: 0.1\ntraining: {max_epochs: 3}\n")
    assert message_of(path).startswith(
        f"{path}: cannot be read as YAML: the key training comes twice in "
    ) and "line 3, column 1" in message_of(path)


def test_merged_keys_may_be_overridden(yaml_file):
    path = yaml_file("training: {lr: 1}\nranking: {<<: {kind: pairwise, margin: 0.1}, margin: 0.2}\n")
    assert load_head_config(path)[1].ranking.margin == 0.2


def test_a_file_that_is_nested_too_deeply_is_refused(yaml_file):
    path = yaml_file("[" * 5000)
    assert message_of(path) == f"{path}: cannot be read as YAML: nested too deeply"


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


@pytest.mark.parametrize(
    ("override", "group", "key", "value"),
    [
        ("temporal.layers=3", "temporal", "layers", 3),
        ("training.lr=1e-4", "training", "lr", 1e-4),
        ("training.lr=1E-4", "training", "lr", 1e-4),
        ("training.lr=0.001", "training", "lr", 1e-3),
        ("training.lr=5.e-4", "training", "lr", 5e-4),
        ("training.max_epochs=1_000", "training", "max_epochs", 1000),
        ("output.bins=9", "output", "bins", 9),
        ("text_audio.kind=decoupled", "text_audio", "kind", "decoupled"),
    ],
)
def test_an_override_replaces_one_value(override, group, key, value):
    _, plain = load_head_config("transformer-dist")
    name, config = load_head_config("transformer-dist", (override,))
    assert name == "transformer-dist"
    assert config.model_dump() == plain.model_dump() | {group: plain.model_dump()[group] | {key: value}}
    assert type(getattr(getattr(config, group), key)) is type(value)


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


def test_the_last_of_several_overrides_wins():
    _, config = load_head_config("transformer-dist", ("dropout=0.1", "pooling=mean", "dropout=0.2"))
    assert (config.dropout, config.pooling.kind) == (0.2, "mean")


def test_an_override_changes_no_later_load():
    load_head_config("transformer-dist", ("temporal.layers=3",))
    assert load_head_config("transformer-dist")[1].temporal.layers == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pooling", "--set pooling: expected key=value, such as temporal.layers=2"),
        ("=3", "--set =3: expected key=value, such as temporal.layers=2"),
        (
            "pooling=[",
            "--set pooling=[: the value is not valid YAML: expected the node content, but found '<stream end>'",
        ),
        (
            "training={lr: 1, lr: 2}",
            "--set training={lr: 1, lr: 2}: the value is not valid YAML: the key lr comes twice",
        ),
        (
            "dropout=" + "[" * 5000,
            f"--set dropout={'[' * 69}...: the value is not valid YAML: nested too deeply",
        ),
        *(
            (
                f"training.batch_size={value}",
                f"--set training.batch_size={value}: the value is not valid YAML: {value} is a number of base {base} "
                "in YAML; write it in base 10",
            )
            for value, base in (("010", 8), ("-010", 8), ("1:30", 60), ("1:30.5", 60))
        ),
        ("downstream.kind=mean", "--set downstream.kind=mean: downstream is a value, not a group of keys"),
        ("output.loss.kind.x=3", "--set output.loss.kind.x=3: kind is a value, not a group of keys"),
    ],
)
def test_an_override_that_is_none_is_refused(override, message):
    assert message_of("transformer-dist", override) == message


def test_a_wrong_value_names_the_preset_and_the_overrides():
    path = presets_folder() / "transformer-dist.yaml"
    assert message_of("transformer-dist", "pooling=max", "temporal.width=3") == (
        f"{path} with pooling=max temporal.width=3: temporal.width: unknown key; "
        "transformer has layers, heads, feedforward; pooling: 'max' is not one of attentive, mean, mean_std"
    )


@pytest.mark.parametrize(
    ("preset", "override", "problem"),
    [
        ("pooling-dist", "temporal.layers=7", "temporal.layers: unknown key; none has no keys"),
        ("pooling-dist", "text_audio.heads=2", "text_audio.heads: unknown key; concat has common_dim"),
        ("transformer-scalar", "output.bins=9", "output.bins: unknown key; scalar has loss"),
        ("transformer-coral", "output.loss=one_hot", "output.loss: 'one_hot' is not one of coral"),
        ("transformer-coral", "output.loss.sigma=0.1", "output.loss.sigma: unknown key; coral has no keys"),
        ("transformer-onehot", "output.loss.sigma=0.1", "output.loss.sigma: unknown key; one_hot has no keys"),
        ("transformer-scalar", "output.loss=raters", "output.loss: 'raters' is not one of l1, mse"),
        ("transformer-dist", "output.loss=mse", "output.loss.kind: 'mse' is not one of gaussian, one_hot, raters"),
        *(("transformer-dist", f"ranking.{key}=0.5", f"ranking.{key}: unknown key; none has no keys")
          for key in RANKING),
    ],
)  # fmt: skip
def test_a_key_of_another_kind_is_refused(preset, override, problem):
    path = presets_folder() / f"{preset}.yaml"
    assert message_of(preset, override) == f"{path} with {override}: {problem}"


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
    plain, keys = (load_head_config(yaml_file(f"temporal: {given}"))[1] for given in (name, f"{{kind: {name}}}"))
    assert plain == keys and plain.temporal.kind == name


def test_a_name_that_is_set_is_a_kind_that_is_set():
    for preset in ("transformer-dist", "pooling-dist"):
        plain, keys = (load_head_config(preset, (f"{key}=none",))[1] for key in ("temporal", "temporal.kind"))
        assert plain == keys and plain.temporal.kind == "none"


def test_keys_may_be_set_of_a_part_that_the_file_only_names(yaml_file):
    path = yaml_file("temporal: bilstm\noutput: {kind: distribution, loss: gaussian}")
    _, config = load_head_config(path, ("temporal.layers=3", "output.loss.sigma=0.5"))
    assert (config.temporal.layers, config.output.loss.sigma) == (3, 0.5)


@pytest.mark.parametrize("order", [1, -1])
def test_a_key_set_beside_the_kind_that_does_not_read_it_is_refused(order):
    overrides = ("temporal.kind=bilstm", "temporal.heads=2", "temporal.layers=2")[::order]
    assert message_of("transformer-dist", *overrides).endswith(": temporal.heads: unknown key; bilstm has layers")


@pytest.mark.parametrize(
    ("override", "dropped", "left"),
    [
        ("temporal.kind=none", {"layers", "heads", "feedforward"}, {"kind"}),
        ("temporal.kind=bilstm", {"heads", "feedforward"}, {"kind", "layers"}),
        ("text_audio.kind=concat", {"heads"}, {"kind", "common_dim"}),
        ("text_audio.kind=decoupled", set(), {"kind", "common_dim", "heads"}),
        ("output.kind=scalar", {"bins", "loss"}, {"kind"}),
        ("ranking.kind=pairwise", {"temperature"}, {"kind", "weight_mi", "weight_ta"}),
        ("ranking.kind=none", {"temperature", "weight_mi", "weight_ta"}, {"kind"}),
    ],
)
def test_a_kind_that_is_overridden_drops_the_files_keys_that_it_does_not_read(yaml_file, override, dropped, left):
    path = yaml_file(
        "temporal: {kind: transformer, layers: 2, heads: 2, feedforward: 64}\n"
        "text_audio: {kind: cross_attention, common_dim: 64, heads: 2}\n"
        "output: {kind: distribution, bins: 9, loss: {kind: gaussian, sigma: 0.5}}\n"
        "ranking: {kind: listwise, weight_mi: 0.1, weight_ta: 0.1, temperature: 2}\n"
    )
    group = override.partition(".")[0]
    plain, changed = (getattr(load_head_config(path, o)[1], group) for o in ((), (override,)))
    assert changed.model_fields_set == left
    assert plain.model_fields_set == left | dropped


@pytest.mark.parametrize("override", ["temporal.kind=none", "temporal.kind=bilstm", "output.kind=coral", "dropout=0.1"])
def test_a_config_is_read_again_as_it_was_written(override):
    _, config = load_head_config("transformer-dist", (override,))
    assert HeadConfig.model_validate(config.model_dump()) == config


def test_another_loss_drops_the_files_keys_of_the_old_one():
    for overrides in (("output.loss=one_hot",), ("output.loss.kind=one_hot",), ("output.loss={kind: one_hot}",)):
        assert load_head_config("transformer-dist", overrides)[1].output.loss.model_dump() == {"kind": "one_hot"}
    _, config = load_head_config("transformer-dist", ("output.kind=scalar", "output.loss=mse"))
    assert config.output.model_dump() == {"kind": "scalar", "loss": {"kind": "mse"}}
    assert message_of("transformer-dist", "output.kind=scalar", "output.loss.sigma=1").endswith(
        ": output.loss.sigma: unknown key; l1 has no keys"
    )


def test_a_files_key_that_no_kind_has_is_not_dropped(yaml_file):
    path = yaml_file("temporal: {kind: transformer, layer: 2}")
    assert message_of(path, "temporal.kind=bilstm").endswith("temporal.layer: unknown key; bilstm has layers")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_runs_own_config_is_its_head(preset, tmp_path):
    _, config = load_head_config(preset, ("dropout=0.1",))
    run = {"name": f"{preset}-seed1984", "seed": 1984, "head": config.model_dump(), "audio_dim": 1024, "versions": {}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(run, sort_keys=False))
    assert load_head_config(str(path)) == (preset, config)
    assert load_head_config(str(path), ("dropout=0.2",))[1].dropout == 0.2


@pytest.mark.parametrize("name", ["../../other", "", None, 3.5, "a/b"])
def test_a_runs_name_that_names_no_folder_is_not_taken(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"name": name, "head": {}}))
    assert load_head_config(str(path))[0] == "config"


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
