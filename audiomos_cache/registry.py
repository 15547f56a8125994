"""Parts that heads, fusions and encoders are made of, by kind and name; users add theirs with `register`.

    @register("pooling", "drasp")
    class Drasp(nn.Module): ...

A part has its own keys in a class `Config` (see `heads.parts.PartConfig`), and is called with
    temporal: (input_size, dropout=..., **keys), pooling: (input_size, **keys),
    loss: (**keys), or (bins, **keys) where its `output` is "distribution",
    audio_encoder: (source, revision=..., device=..., layers=..., precision=...), text_encoder: (source, revision=...,
    device=...); see `encoders.lookup`.

Built-in parts are imported when they are first asked for, so that their names cost nothing. Parts of a user are known
once the module that registers them is imported: by Python, or by `audiomos-cache --import MODULE_OR_FILE COMMAND ...`.
A file never causes an import.
"""

import difflib
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeVar

from audiomos_cache.errors import ConfigError, in_one_line, quoted, shown

log = logging.getLogger(__name__)

T = TypeVar("T")

_HEADS, _FUSION, _ENCODERS = (f"audiomos_cache.{room}" for room in ("heads", "fusion", "encoders"))
# kind -> name -> the module that registers it
BUILT_IN: dict[str, dict[str, str]] = {
    "temporal": dict.fromkeys(("transformer", "bilstm", "none"), f"{_HEADS}.temporal"),
    "pooling": dict.fromkeys(("attentive", "mean", "mean_std"), f"{_HEADS}.pooling"),
    "loss": dict.fromkeys(("gaussian", "one_hot", "raters", "l1", "mse", "coral"), f"{_HEADS}.losses"),
    "fusion": {
        "mean": f"{_FUSION}.averages",
        "weighted": f"{_FUSION}.averages",
        "ridge": f"{_FUSION}.stacking",
        "lightgbm": f"{_FUSION}.boosting",
        "greedy": f"{_FUSION}.greedy",
    },
    "audio_encoder": {"muq": f"{_ENCODERS}.muq", "muq-tiny": f"{_ENCODERS}.tiny"},
    "text_encoder": {"roberta": f"{_ENCODERS}.text", "roberta-tiny": f"{_ENCODERS}.tiny"},
}
_parts: dict[str, dict[str, Any]] = {kind: {} for kind in BUILT_IN}
_imported: dict[str, set[str]] = {}  # what `import_parts` was given -> the modules that it loaded
SCRIPT = "__main__"  # the module of a script or a notebook, which nothing else can import


def register(kind: str, name: str) -> Callable[[T], T]:
    """Make a part known under a name.

    Steps of a head with a user's part are not captured as a CUDA graph, as a replay runs no Python: what a part draws
    by `random` or NumPy, or counts, would stay as it was when the step was captured. A part that computes with torch
    alone, and never waits for the GPU, may say so by the class attribute `capturable = True`, which trains it faster.

    Args:
        kind: temporal, pooling, loss, fusion, audio_encoder or text_encoder.
        name: what configs and options call it: letters, digits, `_` and `-`.
    Returns:
        A decorator for the part: a class, or, of an encoder, also a function.
    Raises:
        ConfigError: the kind is unknown, the name is not valid, another part has it (a class of the same module and
            `__qualname__` replaces it, as when a notebook's cell is run again), or its `Config` is no `PartConfig`.

    >>> from audiomos_cache.registry import known, register
    >>> @register("pooling", "first")
    ... class FirstFrame: ...
    >>> known("pooling")
    ['attentive', 'mean', 'mean_std', 'first']
    """
    if kind not in BUILT_IN:
        raise ConfigError(f"kind {quoted(kind)} is not one of {', '.join(BUILT_IN)}")
    if not name.replace("-", "_").isidentifier():
        raise ConfigError(f"{kind} {quoted(name)}: expected a name of letters, digits, _ and -")

    def add(part: T) -> T:
        module = getattr(part, "__module__", "")
        if name in BUILT_IN[kind] and module != BUILT_IN[kind][name]:
            raise ConfigError(f"{kind} {quoted(name)} is built in; register the one of {module} under another name")
        if (other := _parts[kind].get(name)) is not None and other.__module__ != module:
            raise ConfigError(f"{kind} {quoted(name)} is registered by {other.__module__} already; choose another name")
        if other is not None and _class_name(other) != _class_name(part):
            raise ConfigError(f"{kind} {quoted(name)} is {module}.{_class_name(other)} already; choose another name")
        _check_config(kind, name, part)
        _parts[kind][name] = part
        return part

    return add


def _class_name(part: Any) -> str:
    return str(getattr(part, "__qualname__", type(part).__qualname__))


def _check_config(kind: str, name: str, part: object) -> None:
    """Refuse a part of a head whose `Config`, if it has one, is not ours."""
    config = getattr(part, "Config", None)
    if config is None or kind not in ("temporal", "pooling", "loss"):
        return
    from audiomos_cache.heads.parts import PartConfig

    if not (isinstance(config, type) and issubclass(config, PartConfig)):
        raise ConfigError(
            f"{kind} {quoted(name)}: its Config is {config!r}, expected a subclass of heads.parts.PartConfig"
        )


def known(kind: str) -> list[str]:
    """Return the names of all parts of a kind: those built in, then users' in the order of their registration."""
    return [*BUILT_IN[kind], *(name for name in _parts[kind] if name not in BUILT_IN[kind])]


def lookup(kind: str, name: str) -> Any:
    """Return the part of that name.

    Raises:
        ConfigError: the name is unknown; lists the known names, the nearest first.
    """
    if name in BUILT_IN[kind]:
        import_module(BUILT_IN[kind][name])
    if name not in _parts[kind]:
        raise ConfigError(f"{kind} {unknown(kind, name)}")
    return _parts[kind][name]


def unknown(kind: str, name: object) -> str:
    """Return the message for an unknown name: `'atention' is not one of attentive, mean`, the nearest first."""
    return not_one_of(name, known(kind))


def not_one_of(name: object, names: list[str]) -> str:
    """Return the message for a name that is none of `names`, which are listed with the nearest first."""
    near = difflib.get_close_matches(name, names, len(names)) if isinstance(name, str) else []
    return f"{quoted(name)} is not one of {', '.join([*near, *(each for each in names if each not in near)])}"


def summary(kind: str, name: str) -> str:
    """Return the first line of a part's docstring, without the full stop."""
    return (inspect.getdoc(lookup(kind, name)) or "").partition("\n")[0].rstrip(".")


def import_parts(module_or_file: str) -> None:
    """Import a user's module, which registers its parts.

    Args:
        module_or_file: a module's name, or the path of a `.py` file.
    Raises:
        ConfigError: it cannot be imported, in one line; it registers no part; or the file has the name of another
            module that can be imported.
    """
    before, parts_before = set(sys.modules), _user_parts()
    try:
        if module_or_file.endswith(".py"):
            _import_file(Path(module_or_file))
        else:
            import_module(module_or_file)
    except ConfigError as error:
        raise ConfigError(f"--import {module_or_file}: {error}") from error
    except (Exception, SystemExit) as error:  # the module is the user's, and may fail in any way
        if isinstance(error, ModuleNotFoundError) and error.name == module_or_file:
            advice = "install it, add its folder to PYTHONPATH, or give the path of its .py file"
            raise ConfigError(f"--import {module_or_file}: module not found; {advice}") from error
        reason = in_one_line(f"{type(error).__name__}: {error}")
        raise ConfigError(f"--import {module_or_file}: cannot be imported: {reason}") from error
    loaded = set(sys.modules) - before
    if module_or_file not in _imported and _user_parts() == parts_before and not _has_parts(module_or_file):
        if module_or_file.endswith(".py"):
            sys.modules.pop(Path(module_or_file).stem, None)  # so that the file can be imported once it is corrected
        kinds = "|".join(BUILT_IN)
        raise ConfigError(f"--import {module_or_file}: registers no part; expected @register({kinds}, NAME) in it")
    _imported.setdefault(module_or_file, set()).update(loaded)


def _user_parts() -> set[tuple[str, str]]:
    """Return kind and name of all parts that users registered."""
    return {(kind, name) for kind, parts in _parts.items() for name in parts if name not in BUILT_IN[kind]}


def _has_parts(module_or_file: str) -> bool:
    """Return whether parts come from a module that was loaded before, or from one inside it."""
    return any(_is_of(_parts[kind][name].__module__, module_or_file) for kind, name in _user_parts())


def _is_of(module: str, module_or_file: str) -> bool:
    """Return whether a module is what `import_parts` was given, or inside it."""
    given = Path(module_or_file).stem if module_or_file.endswith(".py") else module_or_file
    return f"{module}.".startswith(f"{given}.")


def imported() -> list[str]:
    """Return what `import_parts` was given so far, for processes that this one starts."""
    return list(_imported)


def is_passed_on(kind: str, name: str) -> bool:
    """Return whether a process that is given `imported()` knows a part: it is built in, or `import_parts` loaded it."""
    return name in BUILT_IN[kind] or _import_of(lookup(kind, name).__module__) is not None


def _import_of(module: str) -> str | None:
    """Return what `import_parts` was given to load a module."""
    return next((given for given, loaded in _imported.items() if module in loaded or _is_of(module, given)), None)


def _import_file(path: Path) -> None:
    """Import a file as the module of its stem, once."""
    if not path.is_file():
        raise ConfigError("file not found")
    loaded = sys.modules.get(path.stem)
    if loaded is not None:
        if Path(getattr(loaded, "__file__", None) or "").resolve() == path.resolve():
            return
        raise ConfigError(f"a module {path.stem} is loaded already; rename the file")
    found = None if "." in path.stem else find_spec(path.stem)
    if found and found.origin and Path(found.origin).resolve() != path.resolve():
        raise ConfigError(f"has the name of the module {path.stem} ({found.origin}); rename the file")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = sys.modules[path.stem] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


Record = dict[str, str | None]


def not_built_in(parts: Iterable[tuple[str, str]]) -> list[Record]:
    """Return a record of each part that is not built in, for a run or a bundle that needs it.

    Args:
        parts: kind and name of each.
    Returns:
        For each: kind, name, import (what `--import` takes), module, class, and the version of the distribution that
        the module is of, None if there is none.
    """
    return [_record(kind, name) for kind, name in dict.fromkeys(parts) if name not in BUILT_IN[kind]]


def _record(kind: str, name: str) -> Record:
    part = lookup(kind, name)
    package = part.__module__.partition(".")[0]
    return {
        "kind": kind,
        "name": name,
        "import": _import_of(part.__module__) or package,
        "module": part.__module__,
        "class": _class_name(part),
        "version": _version_of(package),
    }


def _version_of(package: str) -> str | None:
    from importlib.metadata import version

    if package == SCRIPT:  # also what some distributions have at their top
        return None
    distributions = _distributions(tuple(sys.path)).get(package, ())
    found = version(distributions[0]) if distributions else getattr(sys.modules.get(package), "__version__", None)
    return found if isinstance(found, str) else None


@lru_cache(maxsize=1)
def _distributions(search_path: tuple[str, ...]) -> Mapping[str, list[str]]:  # noqa: ARG001
    """Return the distributions of each package on `sys.path`: all of them are read, which takes 0.2 s."""
    from importlib.metadata import packages_distributions

    return packages_distributions()


def warn_of_scripts(records: Iterable[Record]) -> None:
    """Warn of each part, as `not_built_in` describes them, that is defined in a script or a notebook."""
    for record in records:
        if record["module"] == SCRIPT:
            log.warning(
                "%s %s: %s is defined in %s; move it to a file to use the run elsewhere",
                record["kind"], record["name"], record["class"], SCRIPT,
            )  # fmt: skip


def require_parts(records: object, where: str) -> None:
    """Refuse what needs parts that are not registered; a file never causes an import.

    Args:
        records: what `not_built_in` returned, as it was read from a file.
        where: which file, for the message.
    Raises:
        ConfigError: a part is missing, or another one has its name; names the `--import` to give.
    """
    for record in records if isinstance(records, list) else [records] if records else ():
        if not isinstance(record, Mapping) or str(record.get("kind")) not in BUILT_IN:
            raise ConfigError(f"{where}: parts: expected a kind, name, import, module and class of each")
        kind, name = str(record["kind"]), str(record.get("name"))
        recorded = ".".join(str(record.get(key)) for key in ("module", "class"))
        of_script = record.get("module") == SCRIPT
        if name not in known(kind) and of_script:
            raise ConfigError(
                f"{where}: needs {kind} {shown(name)}, the class {shown(str(record.get('class')))} of a script or "
                f"notebook ({SCRIPT}); move it to a file, and give that to --import before the command"
            )
        if name not in known(kind):
            raise ConfigError(
                f"{where}: needs --import {shown(str(record.get('import')))}, which registers {kind} {shown(name)} "
                f"({shown(recorded)}, version {shown(str(record.get('version')))}); give it before the command"
            )
        if name in BUILT_IN[kind]:
            raise ConfigError(f"{where}: {kind} {quoted(name)} of {shown(recorded)} is built in here; rename the part")
        here = _record(kind, name)
        found = f"{here['module']}.{here['class']}"
        if here["class"] != record.get("class") if of_script else found != recorded:
            raise ConfigError(f"{where}: {kind} {quoted(name)} is {found} here, expected {shown(recorded)}")
        if here["version"] != record.get("version"):
            old, new = shown(str(record.get("version"))), here["version"]
            log.warning("%s: %s %s is of version %s here, and was of %s", where, kind, name, new, old)
