"""Settings of every algorithm, held against their types: wrong ones are named in one line."""

from dataclasses import fields
from typing import get_type_hints

import pytest

from go2_sevpo.algorithms import ALGORITHMS, make_config
from go2_sevpo.runs.typed import COUNTS, POSITIVE, suggestion

WRONG = {
    bool: [1, 0.0, "yes", None, [True]],
    int: [1.5, "abc", None, True, [2], {"a": 1}, -1],
    float: ["abc", None, True, [0.1], {"a": 1}, float("nan"), float("inf"), "nan"],
    str: [1, 2.5, None, True, ["first"]],
}
CASES = [
    (algorithm, field.name, hint, value)
    for algorithm, (_, cls, fixed) in ALGORITHMS.items()
    for field in fields(cls)
    for hint in [get_type_hints(cls)[field.name]]
    for value in WRONG.get(hint, [])
]


def test_most_settings_are_tried():
    assert len(CASES) > 500
    names = {field.name for _, cls, _ in ALGORITHMS.values() for field in fields(cls)}
    assert set(COUNTS) <= names and set(POSITIVE) <= names


def test_every_setting_of_another_type_is_refused_by_name():
    for algorithm, name, _, value in CASES:
        with pytest.raises(ValueError) as error:
            make_config(algorithm, {name: value})
        text = str(error.value)
        assert text.startswith(f"setting '{name}' of {algorithm} is {value!r}, expected "), text
        assert "\n" not in text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"critic_batch": 0}, "a whole number of at least 1"),
        ({"lookahead": -3}, "a whole number of at least 0"),
        ({"policy_steps": -3}, "a whole number of at least 0"),
        ({"rate": 0.0}, "a positive number"),
        ({"actor_rate": -1e-3}, "a positive number"),
        ({"critic_hidden": 256}, r"a list such as \[256, 256\]"),
        ({"critic_hidden": [16, 0]}, "a whole number of at least 1"),
        ({"critic_hidden": [16, "x"]}, "a whole number of at least 1"),
    ],
)
def test_values_without_sense_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        make_config("sevpo", values)


def test_what_fits_is_taken_as_the_field_has_it():
    given = {"rate": "1e-3", "mu1": 2, "critic_hidden": [8, 4], "episode_limit": None, "depth": 1}
    config = make_config("sevpo", {**given, "floor": True, "acting_share": 1})
    assert (config.rate, config.mu1, config.critic_hidden) == (0.001, 2.0, (8, 4))
    assert (config.episode_limit, config.depth, config.floor) == (None, 1, True)
    assert isinstance(config.mu1, float) and isinstance(config.acting_share, float)
    assert make_config("sevpo", {"lookahead": 0, "cost_scale": -1.0}).cost_scale == -1.0


def test_a_slip_of_the_pen_is_told():
    with pytest.raises(
        ValueError, match=r"unknown setting 'crtic_steps' .*did you mean 'critic_st"
    ):
        make_config("sevpo", {"crtic_steps": 3})
    assert suggestion("zzz", ["mu1", "mu2"]) == ""
    assert suggestion("mu3", ["mu1", "rate"]) == " (did you mean 'mu1'?)"
