# The course's commands. `make` alone lists them. Each works as the first thing done in a fresh clone.
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment in .venv (once, a few minutes)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Set PYTHON=/path/to/python3.11."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "Could not make .venv. On Debian and Ubuntu: apt install python3-venv."; exit 2; }
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

course: setup  ## run the notebooks from start to end in the quick profile
	$(BIN)/brainseg course run

test: setup  ## run every test, and every notebook once
	$(BIN)/pytest

lab: setup  ## open your own copy of the notebooks (work/) in JupyterLab
	$(BIN)/python -m brainseg_utils.course.lab

notebooks: setup  ## write notebooks/ and notebooks/solutions/ anew from notebooks/source/
	$(BIN)/python -m brainseg_utils.course.build
	$(BIN)/python -m brainseg_utils.course.readme

bench: setup  ## run the benchmarks: ratios, measured side by side
	@for claim in benchmarks/*.py; do echo "== $$claim"; $(BIN)/python $$claim || exit 1; done

clean:  ## remove the environment and everything the course wrote (work/ stays)
	rm -rf .venv runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup course test lab notebooks bench clean
