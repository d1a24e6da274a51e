import json

import numpy as np
import pytest

pytest.importorskip("scipy")

from go2_sevpo.offline_training.reproduce.mdp.figure2 import (
    Figure2,
    eq4,
    eq5,
    example,
    least_cost,
    paper_mdp,
    random_mdp,
    run,
    solve,
)


def evaluate(mdp, policy, column):
    n = mdp.shape[0]
    transition = np.einsum("sa,sat->st", policy, mdp.transition)
    return np.linalg.solve(np.eye(n) - mdp.gamma * transition, (policy * column).sum(1))


def test_least_cost_of_the_example():
    assert least_cost(paper_mdp()).tolist() == [0, 1, 0, 1, 0, 0]


def test_the_papers_claims_about_s2():
    """Infeasible for l = 1 and every epsilon below 1; with a larger limit, a small epsilon forces
    a5.
    """
    rows = example(np.array([0.0, 0.3, 0.9, 1.0]), (1.0, 2.0))
    tight = [r for r in rows if r["limit"] == 1.0]
    assert [r["eq4"] is None for r in tight] == [True, True, True, False]
    assert all(r["eq4"]["p"] >= 1 - r["epsilon"] - 1e-9 for r in rows if r["limit"] == 2.0)
    # At l = 1, s2 is a safe state (its least cost is 1), so that Eq. 5 constrains it exactly as Eq.
    # 4 does.
    assert [r["eq5"] is None for r in tight] == [True, True, True, False]


def test_below_the_least_cost_the_decoupled_problem_escapes():
    for epsilon in (0.0, 0.5):
        assert eq4(paper_mdp(), 1, 0.5, epsilon) is None
        found = eq5(paper_mdp(), 1, 0.5, epsilon)
        assert found.policy[1, 1] == pytest.approx(0.0)
        assert found.cost == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(4))
def test_solutions_are_policies_with_the_values_and_constraints_they_claim(seed):
    mdp = random_mdp(np.random.default_rng(seed), 8, 3)
    limit, epsilon = float(np.quantile(least_cost(mdp), 0.8)) + 0.5, 0.6
    checked = 0
    for s in range(8):
        found = eq4(mdp, s, limit, epsilon)
        if found is None:
            continue
        checked += 1
        assert np.allclose(found.policy.sum(1), 1)
        assert evaluate(mdp, found.policy, mdp.reward)[s] == pytest.approx(found.reward, abs=1e-6)
        assert evaluate(mdp, found.policy, mdp.cost)[s] <= limit + 1e-6
        assert (0.5 * np.abs(found.policy - mdp.behaviour).sum(1)).max() <= epsilon + 1e-6
    assert checked


def test_without_constraints_it_is_plain_dynamic_programming():
    mdp = random_mdp(np.random.default_rng(7), 8, 3)
    value = np.zeros(8)
    for _ in range(2000):
        value = (mdp.reward + mdp.gamma * mdp.transition @ value).max(1)
    for s in range(8):
        found = solve(mdp, s, mdp.reward, None, 1.0, np.zeros(8, bool))
        assert found.reward == pytest.approx(value[s], abs=1e-6)


def test_the_command_finds_no_violation_of_the_theorem_and_writes_its_results(tmp_path, capsys):
    result = run(Figure2(out=tmp_path, mdps=8, states=6, seed=3))
    t = result["theorem4"]
    assert t["violations"] == 0
    assert t["unsafe_eq4_feasible"] == 0
    assert t["safe_eq4_feasible"] > 0
    assert t["safe_eq4_feasible"] <= t["safe_eq5_feasible"] <= t["safe_states"]
    assert json.loads((tmp_path / "figure2.json").read_text())["theorem4"]["gains"] == t["gains"]
    assert (tmp_path / "figure2.png").stat().st_size > 5000
    assert "Theorem 4 on 8 random MDPs" in capsys.readouterr().out
