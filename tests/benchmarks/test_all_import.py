"""Benchmarks are run by hand: at least they must not name what is no longer there."""

import importlib
from pathlib import Path

import pytest

import benchmarks

NAMES = sorted(p.stem for p in Path(benchmarks.__file__).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_imports(name):
    found = importlib.import_module(f"benchmarks.{name}")
    assert found.__doc__ and Path(found.__file__).stem == name
