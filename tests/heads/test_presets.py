from pathlib import Path

import pytest
import yaml

from audiomos_cache.errors import ArgumentError, ConfigError
from audiomos_cache.heads.config import HeadConfig
from audiomos_cache.heads.presets import load_head_config, overrides_of, preset_names, presets_folder
from tests.support.heads import message_of

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


def test_an_unknown_preset_is_refused_with_the_known_ones():
    assert message_of("transformer-dits") == (
        f"--head transformer-dits: preset not found; known are {', '.join(PRESETS)}, or give a .yaml file"
    )


def test_a_file_of_ones_own_is_named_by_its_stem(yaml_file):
    name, config = load_head_config(yaml_file("pooling: mean_std\noutput: {bins: 9}\n"))
    assert name == "mine"
    assert config.pooling.kind == "mean_std" and config.output.bins == 9
    assert config.temporal == load_head_config("transformer-dist")[1].temporal  # what it leaves out


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "nowhere.yaml"
    assert message_of(str(path)) == f"{path}: file not found, expected keys such as temporal, pooling, output"


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


def test_a_name_that_is_set_is_a_kind_that_is_set():
    for preset in ("transformer-dist", "pooling-dist"):
        unchanged, keys = (load_head_config(preset, (f"{key}=none",))[1] for key in ("temporal", "temporal.kind"))
        assert unchanged == keys and unchanged.temporal.kind == "none"


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
    unchanged, changed = (getattr(load_head_config(path, o)[1], group) for o in ((), (override,)))
    assert changed.model_fields_set == left
    assert unchanged.model_fields_set == left | dropped


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
    run = {"name": f"{preset}-seed1984", "seed": 1984, "head": config.model_dump(), "fingerprint": "0"}
    run["versions"] = {}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(run, sort_keys=False))
    assert load_head_config(str(path)) == (preset, config)
    assert load_head_config(str(path), ("dropout=0.2",))[1].dropout == 0.2


@pytest.mark.parametrize("name", ["../../other", "", None, 3.5, "a/b"])
def test_a_runs_name_that_names_no_folder_is_not_taken(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"name": name, "head": {}, "seed": 1, "fingerprint": "0", "versions": {}}))
    assert load_head_config(str(path))[0] == "config"


@pytest.mark.parametrize("override", ["output.loss=l1", "output.loss.sigma=1"])
@pytest.mark.parametrize("output", ["3", "[1]"])
def test_a_group_that_is_a_value_cannot_be_overridden_inside(yaml_file, output, override):
    with pytest.raises(ConfigError, match=rf"^--set {override}: output is a value, not a group of keys$"):
        load_head_config(yaml_file(f"output: {output}\n"), (override,))


@pytest.mark.parametrize(
    ("given", "overrides"),
    [
        ("a=b", ("a=b",)),
        (["a=b", "c=1"], ("a=b", "c=1")),
        ({"ranking": None, "training.lr": 1e-4}, ("ranking=null", "training.lr=0.0001")),
        ({"pooling": {"kind": "mean"}, "layers": 9}, ('pooling={"kind": "mean"}', "layers=9")),
        ({"a": True, "b": [1, "é"]}, ("a=true", 'b=[1, "é"]')),
    ],
)
def test_overrides_of_a_call(given, overrides):
    assert overrides_of(given) == overrides


def test_a_mapping_of_overrides_gives_its_values_as_they_are():
    given = {"temporal": "none", "text_audio": {"kind": "concat"}, "training.lr": 1e-05}
    config = load_head_config("transformer-dist", overrides_of(given))[1]
    assert (config.temporal.kind, config.text_audio.kind, config.training.lr) == ("none", "concat", 1e-05)
    with pytest.raises(ConfigError, match=r"ranking: None is not one of none, "):
        load_head_config("transformer-dist", overrides_of({"ranking": None}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "set is 3, expected 'key=value', several of these, or a mapping of keys to values"),
        ([("a", 1)], r"set is \[\('a', 1\)\], expected 'key=value'"),
        ({"a=b": 1}, "set: 'a=b': expected a key such as temporal.layers"),
        ({3: 1}, "set: 3: expected a key such as temporal.layers"),
        ({"a": Path("x")}, "set: a is PosixPath.'x'., expected a plain value: Object of type PosixPath is not JSON"),
        ({"a": float("nan")}, "set: a is nan, expected a plain value: "),
    ],
)
def test_overrides_that_are_none_are_refused(given, message):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        overrides_of(given)


def test_a_file_of_no_run_has_no_head(yaml_file):
    path = yaml_file("{head: {}, foo: 1}")
    assert message_of(path) == (
        f"{path}: head, next to it foo: unknown in the file of a head, and a run's config.yaml has seed, fingerprint, "
        "versions too; write the head's keys at the top level"
    )
