# Two commands do everything: 'make demo' and 'make test'. Both make .venv and install what is needed into it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# The Spark that is installed; setup.py says which others work.
SPARK  ?= pyspark==3.5.9
# Tests that run at once on two cores: some of what they do is wait, for a JVM or another process.
AT_ONCE ?= 3
# Where the demo writes.
OUT    ?= demo-out

.PHONY: help demo kernels test fuzz test-slow lint format hooks bench clean install

help:
	@echo "make demo        simulate a sample, train on it, filter it: ends with a VCF, metrics and a report"
	@echo "make test        lint, types and tests"
	@echo "make test-slow   the tests that take minutes, too"
	@echo "make fuzz        5,000 damaged inputs through the commands, a quarter of an hour"
	@echo "make lint        lint, types, import layers, plain English"
	@echo "make hooks       the same before each commit"
	@echo "make bench       the benchmarks"
	@echo "make clean       remove .venv and what the demo wrote"

install: $(VENV)/.installed

# Said before anything is downloaded: the packages have wheels for these versions of Python alone.
$(VENV)/.installed: setup.py pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else \
	  "cnnspark needs Python 3.10, 3.11 or 3.12, and $(PYTHON) is %d.%d; run make PYTHON=python3.11" % v)'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module; install it (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check '$(SPARK)' -e '.[test]'
	@touch $@

demo: install
	$(BIN)/cnnspark demo --out $(OUT) --if-exists overwrite

# The demo does it as well.
kernels: install
	$(BIN)/cnnspark compile-kernels

test: lint kernels
	$(BIN)/pytest -n $(AT_ONCE) --dist loadfile --no-loadscope-reorder -m "not slow and not real"

fuzz: install
	CNNSPARK_FUZZ=5000 $(BIN)/pytest tests/integration/test_fuzz.py

test-slow: lint
	$(BIN)/pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/plain_english.py

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

hooks: install
	$(BIN)/pre-commit install

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
