"""The examples in docstrings of fuse, evaluate, submit and split run as written."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "module",
    ["fusion.fuse", "evaluation.evaluate", "evaluation.submission", "evaluation.summaries", "dataset.splitting"],
)
def test_examples(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(f"audiomos_cache.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
