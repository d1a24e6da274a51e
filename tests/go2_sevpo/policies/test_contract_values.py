"""Contracts between policies and environments: what is asked for and how a difference is named."""

import json

import pytest

from go2_sevpo.policies import contract as contracts
from go2_sevpo.policies.contract import ContractError, check_contract, dump_contract

WHOLE = {
    "contract_version": 1,
    "robot": "r",
    "control_dt": 0.02,
    "action_clip": 1.0,
    "observation": {"size": 3},
}


def test_names_in_files():
    assert contracts.CONTRACT_KEY == "go2_sevpo.contract" and contracts.CONTRACT_VERSION == 1
    assert contracts.REQUIRED_FIELDS == (
        "contract_version",
        "robot",
        "control_dt",
        "action_clip",
        "observation",
    )
    assert issubclass(ContractError, ValueError)


def test_a_dumped_contract_keeps_every_digit():
    third = {**WHOLE, "control_dt": 1.0 / 3.0, "more": [0.1, 2, "x", None, True]}
    assert json.loads(dump_contract(third)) == third


@pytest.mark.parametrize("field", sorted(WHOLE))
def test_a_contract_without_a_required_field_is_refused(field):
    with pytest.raises(ContractError, match=f"^contract field '{field}' is missing$"):
        dump_contract({k: v for k, v in WHOLE.items() if k != field})


def check(found, expected):
    with pytest.raises(ContractError) as error:
        check_contract(found, expected, "p.onnx")
    return str(error.value)


def test_equal_contracts_fit_and_what_only_the_policy_has_is_not_asked_about():
    check_contract(WHOLE, WHOLE, "p")
    check_contract({**WHOLE, "kind": "bc"}, WHOLE, "p")
    # A tuple becomes a list in a file.
    check_contract({"a": [1, 2]}, {"a": (1, 2)}, "p")


def test_a_missing_field_is_named():
    assert check({"a": 1}, {"a": 1, "b": 2}) == "p.onnx: contract field 'b' is missing"


@pytest.mark.parametrize(
    "found, expected, message",
    [
        (1, 2, "field 'f' is 1, the environment has 2"),
        ("x", None, "field 'f' is \"x\", the environment has null"),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "field 'f.b' is 2, the environment has 3"),
        # In alphabetic order, fields of either side.
        ({"z": 1, "b": 2}, {"z": 5, "b": 3}, "field 'f.b' is 2, the environment has 3"),
        ({"b": 2}, {"a": 1, "b": 2}, "field 'f.a' is null, the environment has 1"),
        ({"a": 1, "b": 2}, {"b": 2}, "field 'f.a' is 1, the environment has null"),
        ([1, 2, 3], [1, 5, 6], "field 'f[1]' is 2, the environment has 5"),
        ([1, 2], [1, 2, 3], "field 'f' is [1, 2], the environment has [1, 2, 3]"),
        ([1, 2], {"a": 1}, "field 'f' is [1, 2], the environment has {\"a\": 1}"),
        (
            {"a": [0, {"b": [7, 8]}]},
            {"a": [0, {"b": [7, 9]}]},
            "field 'f.a[1].b[1]' is 8, the environment has 9",
        ),
    ],
)
def test_the_first_difference_is_named_with_both_values(found, expected, message):
    assert check({"f": found}, {"f": expected}) == f"p.onnx does not fit: {message}"


def test_the_environments_first_differing_field_is_the_one_named():
    text = check({"a": 1, "b": 1, "c": 1}, {"c": 2, "a": 2, "b": 1})
    assert text == "p.onnx does not fit: field 'c' is 1, the environment has 2"


def test_long_values_are_cut_after_90_characters():
    fits, long = "x" * 88, "y" * 89  # with their quotes 90 and 91
    text = check({"f": fits}, {"f": long})
    expected = f'p.onnx does not fit: field \'f\' is "{fits}", the environment has "{"y" * 86}...'
    assert text == expected
