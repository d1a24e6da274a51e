"""What Safety-Gymnasium 1.0.0 needs to run beside a modern MuJoCo and gymnasium.

One cure per break, nothing else.

The package was made for mujoco 2.3 and gymnasium 0.28 and is not maintained. What breaks, and what
is done about it:

- ``import safety_gymnasium`` wants ``gymnasium.wrappers.compatibility``, which gymnasium 1 has no
  more: a package module without its ``__init__`` (:func:`install_package`).
- Python 3.11 refuses arrays as defaults of dataclass fields: they become default factories
  (:func:`cured`).
- ``MjModel.jnt(array)`` is a TypeError on mujoco 4: the array's only element is passed
  (:func:`cured`).
- Every reset reads and parses 24 MB of textures: the table is read once, the sky is a gradient
  (:func:`quicken_resets`).
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import IO, Any, Callable, Dict, Iterator, Optional, Union

import mujoco
import numpy as np

SKY = {
    "@type": "skybox",
    "@builtin": "gradient",
    "@rgb1": "0.53 0.81 0.92",
    "@rgb2": "0.9 0.95 1.0",
    "@width": "64",
    "@height": "384",
}
"""Stands in for the package's pictures of a sky; no camera and no observation sees it."""


def install_package() -> None:
    """Make ``safety_gymnasium``'s modules importable without running its ``__init__``.

    Raises:
        ImportError: the package is not installed; says how to.
    """
    if "safety_gymnasium" in sys.modules:
        return
    spec = importlib.util.find_spec("safety_gymnasium")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            "Safety-Gymnasium is not installed: pip install --no-deps safety-gymnasium==1.0.0 "
            "and pip install xmltodict (its own pins do not install beside a modern MuJoCo)"
        )
    package = ModuleType("safety_gymnasium")
    package.__path__ = list(spec.submodule_search_locations)
    package.__file__ = spec.origin
    package.__spec__ = spec
    sys.modules["safety_gymnasium"] = package


def _with_factories(original: Callable[..., Any]) -> Callable[..., Any]:
    """``dataclasses.dataclass`` that takes arrays as defaults: every object gets a copy."""

    def dataclass(cls: Optional[type] = None, **options: bool) -> Any:
        if cls is None:  # @dataclass(...), with options: the class comes in a second call
            return lambda c: dataclass(c, **options)
        for name in getattr(cls, "__annotations__", {}):
            value = cls.__dict__.get(name)
            if isinstance(value, np.ndarray):
                setattr(cls, name, dataclasses.field(default_factory=value.copy))
        return original(cls, **options)

    return dataclass


def _scalar_joint(original: Callable[..., Any]) -> Callable[..., Any]:
    """``MjModel.jnt`` that takes an array of one element as well."""

    def jnt(model: mujoco.MjModel, key: Union[int, str, np.ndarray]) -> Any:
        return original(model, int(key.item()) if isinstance(key, np.ndarray) else key)

    return jnt


@contextmanager
def cured() -> Iterator[None]:
    """Put dataclasses and ``MjModel.jnt`` right while the package is imported or builds a task."""
    dataclass, jnt = dataclasses.dataclass, mujoco.MjModel.jnt
    dataclasses.dataclass = _with_factories(dataclass)
    mujoco.MjModel.jnt = _scalar_joint(jnt)
    try:
        yield
    finally:
        dataclasses.dataclass = dataclass
        mujoco.MjModel.jnt = jnt


class _CachedYaml:
    """Stands in for the ``yaml`` that ``safety_gymnasium.world`` reads its textures with."""

    def __init__(self, original: ModuleType) -> None:
        self._original = original
        self._tables: Dict[str, Dict[str, Any]] = {}  # parsed files by name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def load(self, stream: IO[str], *args: object, **options: object) -> Dict[str, Any]:
        """A copy of the parsed file, with the gradient sky."""
        if stream.name not in self._tables:
            table = self._original.load(stream, *args, **options)
            if "skybox" in (table.get("textures") or {}):
                table["textures"]["skybox"] = dict(SKY)
            self._tables[stream.name] = table
        # The package writes into what it was given.
        return copy.deepcopy(self._tables[stream.name])


def quicken_resets() -> None:
    """Read textures once and let the sky be a gradient; wants the package's modules imported."""
    from safety_gymnasium import world

    if not isinstance(world.yaml, _CachedYaml):
        world.yaml = _CachedYaml(world.yaml)
