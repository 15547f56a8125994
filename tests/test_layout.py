"""The house itself: tests mirror the package, helpers are in tests/support, rooms depend on each other one way."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "audiomos_cache", ROOT / "tests"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEST_MODULES = sorted(TESTS.rglob("test_*.py"))
# Tests of everything at once, and of the folders around the package (docs, benchmarks, ...).
OF_THE_WHOLE = ("whole", "layout", "public_api")

# Room -> rooms that it may not import, not even inside a function.
NEVER_IMPORTED = {
    "heads": ("encoders", "extraction", "training", "evaluation", "fusion"),
    "training": ("encoders",),
    "fusion": ("encoders",),
    "evaluation": ("training", "encoders"),
    "published": ("bundle", "scoring", "heads", "training", "extraction", "fusion", "evaluation"),
    "encoders": ("published", "bundle", "scoring", "heads", "training", "extraction"),
    "cache": ("extraction", "heads", "training"),
    "dataset": ("cache", "encoders", "heads"),
    "audio": ("dataset", "cache", "encoders"),
}


def test_the_house_is_found() -> None:
    assert len(MODULES) > 100 and len(TEST_MODULES) > 70
    assert {room for room, _, _ in imports_between_rooms()} >= NEVER_IMPORTED.keys(), "rooms that there are not"


def modules_of(tests: Path) -> set[str]:
    """The names after which tests in a folder may be called: those of the modules of the same folder."""
    folder = PACKAGE / tests.relative_to(TESTS)
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    if tests == TESTS / "cli":
        names.add("whole")  # what all commands have in common
    if tests == TESTS:
        names |= {*OF_THE_WHOLE, *(path.name for path in ROOT.iterdir() if path.is_dir())}
    return names


@pytest.mark.parametrize("path", TEST_MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_each_test_module_is_called_after_a_module_of_the_same_room(path: Path) -> None:
    """tests/ROOM/test_MODULE.py or tests/ROOM/test_MODULE_more.py is of audiomos_cache/ROOM/MODULE.py."""
    name = path.stem.removeprefix("test_")
    assert any(name == module or name.startswith(f"{module}_") for module in modules_of(path.parent)), (
        f"{path.relative_to(ROOT)}: there is no such module in audiomos_cache/{path.parent.relative_to(TESTS)}; "
        "call it test_MODULE.py or test_MODULE_more.py"
    )


@cache
def imported_names(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, anywhere in it, but for its types alone; also those named in a `from`."""
    return tuple(_imported_names(path))


def _imported_names(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    ignored = {id(node) for block in for_types for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in ignored:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS))
)  # helpers and conftests too
def test_tests_import_helpers_from_support_alone(path: Path) -> None:
    found = [name for name in imported_names(path) if name.split(".")[0] in ("tests", "conftest")]
    assert [name for name in found if not name.startswith("tests.support")] == []


def imports_between_rooms() -> Iterator[tuple[str, str, Path]]:
    """(room, room that it imports, file); a module at the top is a room by its own name."""
    for path in MODULES:
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported_names(path):
            top, _, rest = name.partition(".")
            if top == "audiomos_cache":
                yield room, rest.partition(".")[0], path


def test_rooms_depend_on_each_other_one_way() -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {other}/"
        for room, other, path in imports_between_rooms()
        if other in NEVER_IMPORTED.get(room, ())
    }
    assert sorted(found) == []


def test_only_the_command_line_knows_of_commands() -> None:
    """What it dresses is a library: neither `audiomos_cache.cli` nor click is imported outside of it."""
    users = {room for room, other, _ in imports_between_rooms() if other == "cli"}
    assert users <= {"cli", "__main__"}
    library = [path for path in MODULES if path.parent != PACKAGE / "cli"]
    click = [path for path in library if any(name.split(".")[0] == "click" for name in imported_names(path))]
    assert [str(path.relative_to(ROOT)) for path in click] == []
