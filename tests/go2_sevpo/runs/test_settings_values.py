"""A folder knows the settings it was begun with."""

import json
from pathlib import Path

import pytest

from go2_sevpo.runs.settings import first_difference, keep_settings, plain


@pytest.mark.parametrize(
    ("begun", "now", "but_for", "expected"),
    [
        ({"a": 1}, {"a": 1}, (), None),
        ({"a": 1}, {"a": 2}, (), "a: 1 -> 2"),
        ({"b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 3}}, (), "b.d: 2 -> 3"),
        ({"b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 3}}, ("b.d",), None),
        ({"b": {"d": 2}}, {"b": {"d": 3}}, ("d",), "b.d: 2 -> 3"),
        ({"b": {"d": 2}}, {"b": {"d": 3}}, ("b",), None),
        ({"a": [1, 2]}, {"a": [1, 3]}, (), "a: [1, 2] -> [1, 3]"),
        ({"a": 1}, {"a": 1, "z": 0}, (), "z: None -> 0"),
        ({"a": 1, "z": 0}, {"a": 1}, (), "z: 0 -> None"),
        ({"b": {"c": 1}}, {"b": 2}, (), "b: {'c': 1} -> 2"),
        ({"z": 1, "a": 1}, {"z": 2, "a": 2}, (), "a: 1 -> 2"),
    ],
)
def test_the_first_setting_that_differs_is_named(begun, now, but_for, expected):
    assert first_difference(begun, now, but_for) == expected


def test_settings_are_compared_as_files_hold_them():
    assert plain({"a": (1, 2), "p": Path("x") / "y"}) == {"a": [1, 2], "p": "x/y"}


def test_a_folder_is_gone_on_with_by_the_same_settings_only(tmp_path):
    out = tmp_path / "new" / "folder"
    settings = {"seed": 0, "mix": ("a", "b"), "threads": 1}
    keep_settings(out, settings, ("threads",))
    assert json.loads((out / "settings.json").read_text()) == {
        "seed": 0,
        "mix": ["a", "b"],
        "threads": 1,
    }
    keep_settings(out, {**settings, "threads": 8}, ("threads",))
    with pytest.raises(ValueError, match="folder was begun with other settings: seed: 0 -> 1; use"):
        keep_settings(out, {**settings, "seed": 1}, ("threads",))
    with pytest.raises(ValueError, match="threads: 1 -> 8"):
        keep_settings(out, {**settings, "threads": 8})
    assert json.loads((out / "settings.json").read_text())["seed"] == 0
