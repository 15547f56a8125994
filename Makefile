# `make demo`, `make check` and `make test` need Python >= 3.11 and nothing else: they set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The other major of transformers, in an environment of its own: the encoders must give the same features on both.
OLDER := $(VENV)/transformers-4
# Compiled files are kept, or each process would compile the package and the tests again.
export PYTHONDONTWRITEBYTECODE :=
# A process for each core, with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

.PHONY: demo reproduce check unit test lint clean

demo: $(VENV)/.installed
	$(BIN)/audiomos-cache demo --out demo --overwrite

# Published figures on MusicEval, and ours, with a GPU and the hub; benchmarks/reproduce.py says more. DATA=demo: made-up.
reproduce: $(if $(DATA),$(VENV)/.installed)
	@test -n "$(DATA)" || { echo "usage: make reproduce DATA=MusicEval-phase1 [OUT=results]; DATA=demo: made-up music" >&2; exit 2; }
	$(BIN)/python benchmarks/reproduce.py --data "$(DATA)" --out "$(or $(OUT),results)" $(ARGS)

# While working: what needs neither processes nor seconds. mypy runs at the same time as the tests.
check: $(VENV)/.installed
	$(MAKE) -j 2 lint unit

unit: $(VENV)/.installed
	$(PYTEST) --dist worksteal -m 'not slow and not process'

# Before and after a commit: all of it.
test: lint $(OLDER)/.installed
	$(PYTEST) --dist loadgroup
	PYTHONPATH=$(OLDER) $(PYTEST) --dist loadgroup tests/encoders

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
