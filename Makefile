# The course's commands. `make` alone lists them. Each works as the first thing done in a fresh clone.
.DEFAULT_GOAL := help
# the first that runs and is new enough (a name on the PATH may be a stub); 3.11 is the one that is tested
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
  if $$python -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$python; break; fi; done)
BIN := .venv/bin
STAMP := .venv/.installed

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment in .venv (once, a few minutes)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || \
	  { echo "Python 3.11 or newer is needed. Install it, or set PYTHON=/path/to/python3.11."; exit 2; }
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
