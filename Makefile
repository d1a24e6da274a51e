# Both targets do all their own set-up: a virtual environment in .venv and everything in it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test lint install doctor clean

demo: install
	$(BIN)/go2-demo

test: install lint
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

install: $(STAMP)

$(STAMP): pyproject.toml requirements/constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint requirements/constraints-cpu.txt --editable ".[expert,warp,reproduce,dev]"
	touch $(STAMP)

doctor: install
	$(BIN)/go2-doctor

clean:
	rm -rf runs/demo build .pytest_cache .ruff_cache
