# `make demo` and `make test` need Python >= 3.11 and nothing else: both set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The other major of transformers, beside the first: the encoders must give the same features on both.
OLDER := $(VENV)/transformers-4

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/audiomos-cache demo --out demo --overwrite

test: lint $(OLDER)/.installed
	$(BIN)/python -m pytest
	PYTHONPATH=$(OLDER) $(BIN)/python -m pytest tests/encoders

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(OLDER)/.installed: $(VENV)/.installed
	rm -rf $(OLDER)
	$(BIN)/python -m pip install --quiet --no-deps --target $(OLDER) \
		'transformers == 4.57.6' 'huggingface-hub < 1' 'tokenizers >= 0.22, < 0.23'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
