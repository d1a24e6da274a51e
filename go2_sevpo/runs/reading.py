"""Small files of text, read with one line for whatever is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Type

import yaml


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 (byte {error.start}), expected a file made or edited "
            "as text"
        ) from None


def _parsed(path: Path, kind: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(_text(path))
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply, expected plain {kind}") from None
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else getattr(error, "lineno", None)
        why = getattr(error, "problem", None) or getattr(error, "msg", None) or "unreadable"
        place = "" if line is None else f" in line {line}"
        raise ValueError(f"{path} is not valid {kind}: {why}{place}") from None
    except (ValueError, ArithmeticError, AttributeError, TypeError, LookupError) as error:
        if str(path) in str(error):
            raise
        # Of YAML's dates and numbers, and JSON's numbers of thousands of digits.
        raise ValueError(f"{path} is not valid {kind}: {error}") from None


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON, naming the file and the line.
    """
    return _parsed(path, "JSON", json.loads)


def read_yaml(path: Path, loader: Type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """What a YAML file holds; nothing in it is executed.

    Args:
        path: of the file.
        loader: a safe loader.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not YAML, naming the file and the line.
    """
    return _parsed(path, "YAML", lambda text: yaml.load(text, loader))


def read_mapping(path: Path, loader: Type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """A YAML file of names with values; an empty file is an empty one.

    Raises:
        OSError: it cannot be read.
        ValueError: something else, naming the file.
    """
    found = read_yaml(path, loader)
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"{path} holds {_shown(found)}, expected names with values")
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
