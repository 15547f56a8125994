"""docs/from-the-original.md: its table is what its code prints, and it names things that exist."""

import re
from pathlib import Path

import pytest

from audiomos_cache.presets import preset_names, settable_keys

PAGE = (Path(__file__).parents[2] / "docs" / "from-the-original.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\b\d\.\d\d\b")


def figures(text):
    """The rows of the table and the line below it, each with its figures."""
    lines = [line for line in text.splitlines() if NUMBER.search(line) and line.startswith(("| ", "Standard"))]
    return {NUMBER.sub("", line): [float(number) for number in NUMBER.findall(line)] for line in lines}


def test_the_table_of_quirks_is_what_its_code_prints(capsys):
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(code, "from-the-original.md", "exec"), {})
    printed, shown = figures(capsys.readouterr().out), figures(PAGE.split("## Three quirks")[1].split("```python")[0])
    assert [len(numbers) for numbers in shown.values()] == [2] * 7 and list(printed) == list(shown)
    for line, numbers in shown.items():
        assert printed[line] == pytest.approx(numbers, abs=0.011), line  # rounded, and then rounded otherwise


def test_the_page_names_presets_and_keys_that_exist():
    named = set(re.findall(r"`((?:transformer|decoupled|pooling|cross-attention)-[a-z-]+)`", PAGE))
    assert len(named) == 6 and named <= set(preset_names())
    keys = set(re.findall(r"--set\s+([a-z_.]+)=", PAGE))
    assert len(keys) == 9 and keys <= set(settable_keys())


def test_the_modules_and_tests_that_the_page_names_exist():
    paths = set(re.findall(r"`((?:audiomos_cache|tests)/[\w./]+)`", PAGE))
    assert len(paths) >= 4
    assert [path for path in paths if not (Path(__file__).parents[2] / path).exists()] == []
