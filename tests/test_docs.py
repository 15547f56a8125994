"""docs/from-the-original.md: its table is what its code prints, and it names things that exist."""

import re
from pathlib import Path

import pytest

from audiomos_cache.heads.config import settable_keys
from audiomos_cache.heads.presets import preset_names

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "from-the-original.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\b\d\.\d\d\b")


def figures(text):
    """The rows of the table and the line below it, each with its figures."""
    lines = [line for line in text.splitlines() if NUMBER.search(line) and line.startswith(("| ", "Standard"))]
    return {NUMBER.sub("", line): [float(number) for number in NUMBER.findall(line)] for line in lines}


@pytest.mark.slow
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
    assert len(keys) == 11 and keys <= {each.key for each in settable_keys()}


def test_every_file_of_ours_that_the_page_names_exists():
    """In tables the left column is the original's."""
    rows = [line.split("|")[2:] if line.startswith("| `") else [line] for line in PAGE.splitlines()]
    text = "\n".join(cell for row in rows for cell in row)
    names = set(re.findall(r"`((?:[\w-]+/)+|[\w./-]+\.(?:py|yaml|md|toml))`", text))
    names |= set(re.findall(r"\s(configs/[\w.-]+)", text))
    paths = names - {"ensemble_predictions.py"}  # of the original, named in a sentence
    assert len(paths) >= 10
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
