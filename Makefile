# Every target does its own set-up: a virtual environment in .venv and everything in it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo demo-safety test test-slow test-py38 test-mjlab lint mutants chaos install doctor clean

demo: install
	$(BIN)/go2-demo

# One Safety-Gymnasium task: generated data, SEVPO and cloning.
demo-safety: install
	$(BIN)/python -m go2_sevpo.deploy.demo.safety_gymnasium

# What a change is tried with: lint, types, layers, and every test that is quick.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# Whole chains, MuJoCo Warp's conformance, the wheel: what cannot be quick.
test-slow: install
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

# Single faults put into the code one at a time: the tests must notice. MUTANTS='...' picks modules.
mutants: install
	$(BIN)/python -m tests.mutants $(MUTANTS)

# Malformed files for every reader; commands killed, doubled and out of disk. CHAOS='--seed 7 --files 1000 --kills 5'
chaos: install
	$(BIN)/python -m tests.chaos $(CHAOS)

# The suite on Python 3.8, as beside Isaac Gym: an interpreter from pyenv or PATH.
PYTHON38 ?= $(shell ls $$(pyenv root 2>/dev/null)/versions/3.8*/bin/python 2>/dev/null | tail -1 || true)
PYTHON38 := $(or $(PYTHON38),$(shell command -v python3.8))

test-py38:
	@test -n "$(PYTHON38)" || { echo "no Python 3.8 found; get one with: pyenv install 3.8   (or set PYTHON38=/path/to/python3.8)"; exit 1; }
	$(PYTHON38) -m venv .venv38
	.venv38/bin/python -m pip install --quiet --upgrade pip
	.venv38/bin/python -m pip install --quiet --constraint requirements/constraints-isaacgym.txt --editable ".[expert]" scipy pytest pytest-xdist
	.venv38/bin/python -m pytest -n 2 --dist loadgroup -p no:cacheprovider

# Our task inside mjlab, whose pins of MuJoCo differ from ours: an environment of its own.
test-mjlab:
	$(PYTHON) -m venv .venv-mjlab
	.venv-mjlab/bin/python -m pip install --quiet --upgrade pip
	.venv-mjlab/bin/python -m pip install --quiet --editable ".[mjlab]" pytest pytest-xdist scipy
	MJLAB_WARP_QUIET=1 .venv-mjlab/bin/python -m pytest -n 0 -m slow -p no:cacheprovider tests/data_collection/test_mjlab_task.py

# The type checker and the layers see the folders laid out as they are installed.
lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tests.source_tree build/tree
	cd build/tree && $(abspath $(BIN))/mypy
	cd build/tree && PYTHONPATH=. $(abspath $(BIN))/lint-imports --no-logo

install: $(STAMP)

$(STAMP): pyproject.toml setup.py requirements/constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint requirements/constraints-cpu.txt --editable ".[expert,warp,safety,reproduce,robot,dev]"
	$(BIN)/python -m pip install --quiet --no-deps safety-gymnasium==1.0.0
	touch $(STAMP)

doctor: install
	$(BIN)/go2-doctor

clean:
	rm -rf runs/demo runs/demo_safety build .pytest_cache .ruff_cache
