"""Registered parts: names, imports, and what a run or a bundle records of parts that are not built in."""

import logging
import sys
from importlib import import_module

import pytest

from audiomos_cache import registry
from audiomos_cache.errors import ConfigError
from audiomos_cache.heads.losses import objective_of
from audiomos_cache.heads.model import build_head
from audiomos_cache.heads.part_configs import CONFIGS
from audiomos_cache.heads.parts import output_of_loss
from audiomos_cache.heads.presets import head_config, load_head_config
from audiomos_cache.registry import (
    BUILT_IN,
    import_parts,
    imported,
    is_passed_on,
    known,
    lookup,
    not_built_in,
    register,
    require_parts,
    summary,
    unknown,
    warn_of_scripts,
)

RUN = "name: a\nseed: 1\nfingerprint: x\nversions: {}\n"
pytestmark = pytest.mark.usefixtures("fresh_registry")

PART = '''
from torch import nn
from audiomos_cache.heads.parts import PartConfig
from audiomos_cache.registry import register

@register("pooling", "last")
class Last(nn.Module):
    """The last frame. No more."""

    class Config(PartConfig):
        back: int = 1

    def __init__(self, input_size, back):
        super().__init__()
        self.output_size, self.back = input_size, back
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module, and forget it after the test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, content=PART):
        path = tmp_path / f"{name}.py"
        path.write_text(content)
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in BUILT_IN.items() for name in names])
def test_what_is_built_in_is_registered_by_its_module(kind, name):
    if kind == "fusion":
        pytest.importorskip(BUILT_IN[kind][name])
        return
    part = lookup(kind, name)
    assert part.__module__ == BUILT_IN[kind][name] and summary(kind, name)
    if kind in CONFIGS:
        assert part.Config is CONFIGS[kind][name]
        assert list(CONFIGS[kind]) == list(BUILT_IN[kind])
    if kind == "loss":
        assert part.output == output_of_loss(name)


def test_a_part_is_known_by_its_name():
    @register("pooling", "first")
    class First: ...

    assert known("pooling") == ["attentive", "mean", "mean_std", "first"]
    assert lookup("pooling", "first") is First
    register("pooling", "first")(First)  # as a notebook does when its cell is run again


def test_the_nearest_names_come_first():
    assert unknown("pooling", "mean_sdt") == "'mean_sdt' is not one of mean_std, mean, attentive"
    assert unknown("pooling", 3) == "3 is not one of attentive, mean, mean_std"
    assert refusal(lookup, "loss", "mae") == "loss 'mae' is not one of mse, gaussian, one_hot, raters, l1, coral"


def test_what_cannot_be_registered_is_refused():
    assert refusal(register, "poling", "x").startswith("kind 'poling' is not one of temporal, pooling, loss, fusion, ")
    assert refusal(register, "pooling", "a b") == "pooling 'a b': expected a name of letters, digits, _ and -"
    mine = type("Mine", (), {"__module__": "mine"})
    assert refusal(register("pooling", "mean"), mine) == (
        "pooling 'mean' is built in; register the one of mine under another name"
    )
    register("pooling", "first")(mine)
    assert refusal(register("pooling", "first"), type("Other", (), {"__module__": "other"})) == (
        "pooling 'first' is registered by mine already; choose another name"
    )


def test_a_module_is_imported_by_its_name_or_its_file(module):
    path = module("some_parts")
    import_parts("some_parts")
    assert "last" in known("pooling") and imported() == ["some_parts"]
    import_parts("some_parts")
    import_parts(str(path))  # the same file
    assert imported() == ["some_parts", str(path)]


def test_a_file_is_imported_from_anywhere(module, monkeypatch, tmp_path):
    path = module("some_parts")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    import_parts(str(path))
    assert lookup("pooling", "last").__module__ == "some_parts"
    (tmp_path / "other").mkdir()
    other = path.rename(tmp_path / "other" / "some_parts.py")
    assert refusal(import_parts, str(other)) == (
        f"--import {other}: a module some_parts is loaded already; rename the file"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import no_such_thing", "cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise ValueError('a\\nb')", "cannot be imported: ValueError: a b"),
        ("from audiomos_cache.registry import register\nregister('pooling', 'mean')(type('A', (), {}))",
         "pooling 'mean' is built in; register the one of broken under another name"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_refused_in_one_line(module, content, reason):
    path = module("broken", content)
    for given in ("broken", str(path)):
        assert refusal(import_parts, given) == f"--import {given}: {reason}"
        assert "broken" not in sys.modules and imported() == []


def test_a_module_that_registers_no_part_is_refused(module):
    path = module("nothing", "x = 1")
    for given in ("json", "nothing", str(path)):
        found = refusal(import_parts, given)
        assert found.startswith(f"--import {given}: registers no part; expected @register(temporal|pooling|loss|")
        sys.modules.pop("nothing", None)
    assert imported() == []
    path.write_text(PART + "\n# corrected")
    import_parts(str(path))
    assert "last" in known("pooling")


def test_a_module_that_python_imported_before_may_be_given(module):
    module("some_parts")
    import_module("some_parts")
    import_parts("some_parts")
    assert imported() == ["some_parts"]


def test_what_is_not_there_is_refused(tmp_path):
    assert refusal(import_parts, "nowhere_at_all") == (
        "--import nowhere_at_all: module not found; install it, add its folder to PYTHONPATH, or give "
        "the path of its .py file"
    )
    path = tmp_path / "nowhere.py"
    assert refusal(import_parts, str(path)) == f"--import {path}: file not found"


def test_what_is_not_built_in_is_recorded(module):
    module("some_parts", f"__version__ = '1.2'\n{PART}")
    import_parts("some_parts")
    parts = [("pooling", "mean"), ("pooling", "last"), ("temporal", "none"), ("pooling", "last")]
    [record] = not_built_in(parts)
    assert record == {"kind": "pooling", "name": "last", "import": "some_parts", "module": "some_parts",
                      "class": "Last", "version": "1.2"}  # fmt: skip


@pytest.mark.parametrize("as_file", [True, False])
def test_a_record_says_what_to_import(module, as_file):
    path = module("some_parts")
    given = str(path) if as_file else "some_parts"
    import_parts(given)
    assert not_built_in([("pooling", "last")])[0]["import"] == given


def test_a_record_is_checked_before_use(module, caplog):
    module("some_parts")
    record = {"kind": "pooling", "name": "last", "import": "some_parts", "module": "some_parts", "class": "Last",
              "version": None}  # fmt: skip
    assert refusal(require_parts, [record], "run/config.yaml") == (
        "run/config.yaml: needs --import some_parts, which registers pooling last (some_parts.Last, version None); "
        "give it before the command"
    )
    assert "some_parts" not in sys.modules, "nothing is imported because a file says so"
    import_parts("some_parts")
    require_parts([record], "run/config.yaml")
    assert refusal(require_parts, [record | {"class": "Final"}], "x") == (
        "x: pooling 'last' is some_parts.Last here, expected some_parts.Final"
    )
    assert "is built in here; rename the part" in refusal(require_parts, [record | {"name": "mean"}], "x")
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        require_parts([record | {"version": "3"}], "x")
    assert caplog.messages == ["x: pooling last is of version None here, and was of 3"]


@pytest.mark.parametrize("records", [["last"], [{}], [{"kind": "x"}], [None], "my_parts", [{"kind": ["pooling"]}]])
def test_what_is_no_record_is_refused(records):
    assert refusal(require_parts, records, "x") == "x: parts: expected a kind, name, import, module and class of each"


@pytest.mark.parametrize("records", [None, [], {}])
def test_without_records_nothing_is_needed(records):
    require_parts(records, "x")


def test_a_record_of_a_stranger_is_shown_escaped():
    record = {"kind": "pooling", "name": "\x1b[31m", "import": "a\nb", "module": "m", "class": "c", "version": "1"}
    assert refusal(require_parts, [record], "x").startswith(r"x: needs --import 'a\nb', which registers pooling '\x1b[")


def test_a_users_part_validates_with_its_own_keys(module):
    module("some_parts")
    import_parts("some_parts")
    config = head_config({"pooling": {"kind": "last", "back": 3}})
    assert config.pooling.model_dump() == {"kind": "last", "back": 3}
    assert head_config(config.model_dump()) == config
    assert load_head_config("transformer-dist", ("pooling=last", "pooling.back=2"))[1].pooling.back == 2
    message = refusal(head_config, {"pooling": {"kind": "last", "back": "x", "forward": 1}})
    assert "pooling.back: 'x': input should be a valid integer" in message
    assert "pooling.forward: unknown key; last has back" in message


def test_imports_of_a_preset_are_needed_only_where_a_part_is_missing(module, tmp_path):
    module("some_parts")
    path = tmp_path / "mine.yaml"
    path.write_text("imports: [some_parts]\npooling: last\n")
    assert refusal(load_head_config, str(path)) == (
        f"{path}: needs --import some_parts, given before the command (pooling: 'last' is not one of attentive, mean, "
        "mean_std)"
    )
    assert "some_parts" not in sys.modules
    import_parts("some_parts")
    assert load_head_config(str(path))[1].pooling.kind == "last"
    path.write_text("imports: some_parts\n")
    assert "imports: 'some_parts': expected a list of modules" in refusal(load_head_config, str(path))


def test_a_config_of_a_part_must_be_one_of_ours():
    assert refusal(register("pooling", "odd"), type("Odd", (), {"Config": dict})) == (
        "pooling 'odd': its Config is <class 'dict'>, expected a subclass of heads.parts.PartConfig"
    )
    assert "odd" not in known("pooling")
    register("audio_encoder", "odd")(type("Odd", (), {"Config": dict}))  # an encoder's is its own affair
    assert "odd" in known("audio_encoder")


@pytest.mark.parametrize(
    ("kind", "config", "given"),
    [
        ("pooling", {"pooling": "odd"}, "(1024)"),
        ("temporal", {"temporal": "odd"}, "(1024, dropout=0.3)"),
        ("loss", {"output": {"kind": "scalar", "loss": "odd"}}, "()"),
    ],
)
def test_a_constructor_that_takes_more_than_the_keys_is_refused(kind, config, given):
    class Odd:
        output_size = 3

        def __init__(self, *_sizes, power, **_others): ...

    register(kind, "odd")(Odd)
    make = objective_of if kind == "loss" else build_head
    assert refusal(make, head_config(config)) == (
        f"{kind} 'odd': its constructor cannot be called with {given}: missing a required argument: 'power'; expected "
        "these arguments, and a key of its Config or a default for any other"
    )


def test_an_error_inside_a_constructor_is_the_parts_own():
    class Odd:
        def __init__(self, _input_size):
            raise TypeError("mine")

    register("pooling", "odd")(Odd)
    with pytest.raises(TypeError, match=r"^mine$"):
        build_head({"pooling": "odd"})


def test_a_file_with_the_name_of_a_library_is_refused(module, tmp_path, monkeypatch):
    library = module("some_library", "x = 1")
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "some_library.py"
    path.write_text(PART)
    assert refusal(import_parts, str(path)) == (
        f"--import {path}: has the name of the module some_library ({library}); rename the file"
    )
    assert "some_library" not in sys.modules and "last" not in known("pooling")
    monkeypatch.chdir(path.parent)
    monkeypatch.syspath_prepend(str(path.parent))
    import_parts("some_library.py")
    assert imported() == ["some_library.py"], "itself is no other, whatever its path is called"


def test_another_class_of_a_module_does_not_take_a_name():
    first, other = (type(name, (), {"__module__": "mine"}) for name in ("First", "Other"))
    register("pooling", "first")(first)
    assert refusal(register("pooling", "first"), other) == (
        "pooling 'first' is mine.First already; choose another name"
    )
    again = type("First", (), {"__module__": "mine"})
    register("pooling", "first")(again)
    assert lookup("pooling", "first") is again


SCRIPTS_OWN = {"kind": "pooling", "name": "last", "import": "__main__", "module": "__main__", "class": "Last",
               "version": None}  # fmt: skip


def test_a_part_of_a_script_is_recorded_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: {"__main__": ["pytest"]})
    register("pooling", "last")(type("Last", (), {"__module__": "__main__"}))
    assert not_built_in([("pooling", "last")]) == [SCRIPTS_OWN]
    assert caplog.messages == []
    warn_of_scripts([SCRIPTS_OWN, SCRIPTS_OWN | {"module": "mine"}])
    assert caplog.messages == ["pooling last: Last is defined in __main__; move it to a file to use the run elsewhere"]


def test_a_part_of_a_script_may_have_been_moved_to_a_file(module):
    assert refusal(require_parts, [SCRIPTS_OWN], "x") == (
        "x: needs pooling last, the class Last of a script or notebook (__main__); move it to a file, and give that "
        "to --import before the command"
    )
    path = module("some_parts")
    import_parts(str(path))
    require_parts([SCRIPTS_OWN], "x")
    assert refusal(require_parts, [SCRIPTS_OWN | {"class": "Other"}], "x") == (
        "x: pooling 'last' is some_parts.Last here, expected __main__.Other"
    )


def test_which_parts_other_processes_know(module):
    path = module("some_parts")
    assert is_passed_on("pooling", "mean")
    import_module("some_parts")
    assert not is_passed_on("pooling", "last"), "Python imported it here alone"
    import_parts(str(path))
    assert is_passed_on("pooling", "last")
    assert not_built_in([("pooling", "last")])[0]["import"] == str(path)


def test_a_run_needs_the_parts_that_it_was_made_with(module, tmp_path):
    module("some_parts")
    record = {"kind": "pooling", "name": "last", "import": "some_parts", "module": "some_parts", "class": "Last"}
    path = tmp_path / "config.yaml"
    path.write_text(f"{RUN}head: {{pooling: {{kind: last, back: 2}}}}\nparts: [{record}]\n")
    assert refusal(load_head_config, str(path)).startswith(f"{path}: needs --import some_parts, which registers ")
    import_parts("some_parts")
    assert load_head_config(str(path))[1].pooling.back == 2
    assert registry.imported() == ["some_parts"]
