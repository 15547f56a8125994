"""YAML files and overrides, by those of a head: what is read, and what is refused."""

import json
from itertools import pairwise

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


_LAUGHS = "\n".join(["a: &a [x, x]", *(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]" for a, b in pairwise("abcdefghijklmnop"))])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (_LAUGHS, "an anchor or alias (& or *); write its value out"),
        ("pooling: &a [*a]", "an anchor or alias (& or *); write its value out"),
        ("pooling: *a", "an anchor or alias (& or *); write its value out"),
        ("pooling: &a", "an anchor or alias (& or *); write its value out"),
        ("dropout: !!int ''", "the tag tag:yaml.org,2002:int; leave it out, and put a string in quotes"),
        ("dropout: !!float x", "the tag tag:yaml.org,2002:float; leave it out"),
        ("pooling: !!binary AAAA", "the tag tag:yaml.org,2002:binary; leave it out"),
        ("pooling: !!timestamp 2001-01-01", "the tag tag:yaml.org,2002:timestamp; leave it out"),
        ("pooling: !!set {a, b}", "the tag tag:yaml.org,2002:set; leave it out"),
        ("pooling: ! x", "the tag !; leave it out"),
        ("!!python/object/apply:os.getcwd []", "the tag tag:yaml.org,2002:python/object/apply:os.getcwd; leave"),
        ("ranking: {<<: {kind: pairwise}, margin: 0.2}", "a merged key, <<; write its keys out"),
        (r'pooling: "\U99999999"', "Python int too large to convert to C int"),
        (r'pooling: "\U00110000"', "chr() arg not in range"),
        (r'pooling: "\ud800"', "half a surrogate pair in a string"),
        ("pooling: \x1b", "unacceptable character #x001b: special characters are not allowed"),
        ("dropout: .nan", "'.nan' is not a number"),
        ("dropout: -.inf", "'-.inf' is not a number"),
        ("dropout: 1_0", "'1_0' is not a whole number"),
        ("dropout: 0x1F", "0x1F is a number of base 16 in YAML; write it in base 10"),
        ("dropout: 0b11", "0b11 is a number of base 2 in YAML; write it in base 10"),
        (f"dropout: {'9' * 400}", "999' is a number of more than 20 digits"),
        (f"dropout: {'9' * 400}.0", "999.0' is not a number"),
        (f"dropout: {'9' * 5000}", "999' is a number of more than 20 digits"),
        ("{" * 100_000, "nested too deeply"),
        ("- " * 1000, "nested too deeply"),
        ("? [a]\n: b", "found unhashable key"),
    ],
)
def test_what_stands_for_something_else_is_refused(yaml_file, content, problem):
    path = yaml_file(content)
    message = message_of(path)
    assert message.startswith(f"{path}: cannot be read as YAML: ") and problem in message
    assert len(message) < len(path) + 300 and message.isprintable()


def test_a_file_beyond_all_configs_is_refused_unread(yaml_file):
    path = yaml_file(f"pooling: {'x' * 2**20}")
    assert message_of(path).startswith(f"{path}: 1048585 bytes, expected keys such as")


def test_what_is_no_file_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.symlink_to("/dev/zero")
    assert message_of(str(path)) == f"{path}: is a device, expected keys such as temporal, pooling, output"


def test_a_key_that_is_no_string_is_refused(yaml_file):
    path = yaml_file("1: 2")
    assert message_of(path) == f"{path}: the key 1 is no string, expected keys such as temporal, pooling, output"


@pytest.mark.parametrize("key", ["k" * 10**6, "k \u202e" * 10**5])
def test_what_a_message_quotes_is_short(yaml_file, key):
    path = yaml_file(f"? {key}\n: 1\n" if key.isprintable() else f"? {json.dumps(key)}\n: 1\n")
    message = message_of(path)
    assert len(message) < len(path) + 700 and message.isprintable() and message.endswith(": unknown key")


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
        ("training.max_epochs=1000", "training", "max_epochs", 1000),
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
            f"--set dropout={'[' * 139}...{'[' * 50}: the value is not valid YAML: nested too deeply",
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
