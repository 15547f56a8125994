"""YAML files and overrides, by those of a head: what is read, and what is refused."""

import pytest

from audiomos_cache.heads.presets import load_head_config
from tests.support.heads import message_of, yaml_file

__all__ = ["yaml_file"]


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
    _, unchanged = load_head_config("transformer-dist")
    name, config = load_head_config("transformer-dist", (override,))
    assert name == "transformer-dist"
    assert config.model_dump() == unchanged.model_dump() | {group: unchanged.model_dump()[group] | {key: value}}
    assert type(getattr(getattr(config, group), key)) is type(value)


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
