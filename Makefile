# make demo  - set up, fetch the demo model, run the whole job, end with a report
# make test  - set up and run all tests
# make check - lint, format and types

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Redone when what is installed, or how, changes; a no-op otherwise.
INPUTS := pyproject.toml constraints.txt

.PHONY: setup demo test check clean

setup: $(STAMP)

$(STAMP): $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "babelgate needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/babelgate demo --out demo-run

test: setup
	$(BIN)/python -c 'from babelgate.models.demo import demo_folder; print(demo_folder())'
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf $(VENV) demo-run build src/*.egg-info .pytest_cache .ruff_cache
