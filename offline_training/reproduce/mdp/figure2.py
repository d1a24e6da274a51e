"""Figure 2 and Theorem 4 by linear programming (``go2-reproduce figure2``).

Eq. 4 constrains cost and divergence from the behaviour policy everywhere; Eq. 5 does so on safe
states only and minimises cost on unsafe ones. With D(pi || pi_b) = max_s TV(pi(.|s), pi_b(.|s)),
which on the paper's example is its 1 - p, both are exact linear programs in the occupancy d(s, a):
the divergence constraint of a state reads sum_a |d(s, a) - d(s) pi_b(a|s)| / 2 <= epsilon d(s). The
paper's proof uses another divergence, a mean over states, but needs only that leaving out states
cannot increase it, which holds here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from go2_sevpo.runs.files import write_atomically
from go2_sevpo.runs.provenance import write_result

try:
    from scipy.optimize import linprog
    from scipy.sparse import csr_matrix
except ImportError:  # reported by run()
    linprog = None


@dataclass
class Figure2:
    """Solve the paper's MDP example and random MDPs exactly: infeasibility of Eq. 4, dominance of
    Eq. 5.
    """

    out: Path = Path("runs/figure2")
    mdps: int = 200
    """Random MDPs."""
    states: int = 12
    actions: int = 3
    seed: int = 0


@dataclass
class Mdp:
    """P (S, A, S), reward r and cost c (S, A), discount, behaviour policy pi_b (S, A).

    A state from which P leads nowhere is an end.
    """

    transition: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    gamma: float
    behaviour: np.ndarray

    @property
    def shape(self) -> Tuple[int, int]:
        """(S, A)."""
        return self.reward.shape


@dataclass
class Solution:
    """An optimal policy (S, A) from one initial state, with its values there."""

    policy: np.ndarray
    reward: float
    """V_r at the start."""
    cost: float
    """V_c there."""


def paper_mdp() -> Mdp:
    """The example of Section 2, discount 1.

    s1 -> s2 or s3; s2 -a4-> s5 or -a5-> s4; s3 -> s5; s4 -> s5. Rewards are 1 everywhere; s2 and s4
    cost 1. pi_b takes a5 in s2 (and either action in s1).

    The text names the states, their rewards and costs and s2's two actions; the other arrows are
    the only ones that fit them. A sixth state is the end after s5; nothing leads on from it, so
    that occupancies stay finite at discount 1.
    """
    transition, reward, cost = np.zeros((6, 2, 6)), np.zeros((6, 2)), np.zeros((6, 2))
    # s1 is state 0; both actions of a state with one arrow take it.
    targets = {0: (1, 2), 1: (4, 3), 2: (4, 4), 3: (4, 4), 4: (5, 5)}
    for s, ends in targets.items():
        for a, end in enumerate(ends):
            transition[s, a, end] = 1.0
        reward[s] = 1.0
        cost[s] = 1.0 if s in (1, 3) else 0.0
    behaviour = np.full((6, 2), 0.5)
    behaviour[1] = (0.0, 1.0)  # a4, a5
    return Mdp(transition, reward, cost, 1.0, behaviour)


def random_mdp(rng: np.random.Generator, states: int, actions: int) -> Mdp:
    """Sparse random transitions, a third of the states costly, a random behaviour policy.

    The behaviour policy takes every action now and then.
    """
    transition = np.zeros((states, actions, states))
    for s in range(states):
        for a in range(actions):
            ends = rng.choice(states, 3, replace=False)
            transition[s, a, ends] = rng.dirichlet(np.ones(3))
    costly = rng.random(states) < 1 / 3  # (S,): a state costs whatever is done there
    cost = np.repeat(costly[:, None], actions, 1).astype(float)
    reward = rng.random((states, actions))
    behaviour = rng.dirichlet(np.ones(actions), states)
    return Mdp(transition, reward, cost, 0.9, behaviour)


def least_cost(mdp: Mdp) -> np.ndarray:
    """min_pi V_c (S,), Definition 2, by value iteration to machine precision.

    Raises:
        ValueError: the iteration does not end.
    """
    value = np.zeros(mdp.shape[0])
    for _ in range(100_000):
        # V(s) <- min_a [c(s, a) + gamma sum_s' P(s'|s, a) V(s')]
        new = (mdp.cost + mdp.gamma * mdp.transition @ value).min(1)
        if np.abs(new - value).max() < 1e-13:
            return new
        value = new
    raise ValueError(
        "the least cost does not converge; "
        "expected a discount below 1 or an end that is always reached"
    )


def solve(
    mdp: Mdp,
    start: int,
    objective: np.ndarray,
    limit: Optional[float],
    epsilon: float,
    regularised: np.ndarray,
) -> Optional[Solution]:
    """Maximise the expected sum of ``objective`` (S, A) from ``start``; None if infeasible.

    Args:
        limit: on V_c at ``start``; None for no limit.
        epsilon: bound of the total variation on states where ``regularised`` (S,) is true.
    """
    states, actions = mdp.shape
    # Unknowns (2 S A,), all >= 0: the occupancies d(s, a), then bounds t(s, a) of the differences
    # |d(s, a) - d(s) pi_b(a|s)|, where d(s) = sum_a d(s, a).
    pairs = states * actions
    # Flow: sum_a d(s, a) - gamma sum_s'a' P(s|s', a') d(s', a') = 1 at the start, 0 elsewhere
    flow = np.zeros((states, 2 * pairs))
    for s in range(states):
        flow[s, s * actions : (s + 1) * actions] += 1.0
    flow[:, :pairs] -= mdp.gamma * mdp.transition.reshape(pairs, states).T
    begin = np.zeros(states)
    begin[start] = 1.0
    rows: List[np.ndarray] = []  # rows @ unknowns <= bounds
    for s in np.flatnonzero(regularised).tolist():
        rows += _divergence_rows(mdp, s, epsilon)
    bounds = [0.0] * len(rows)
    if limit is not None:
        # sum c d <= l
        rows.append(np.concatenate([mdp.cost.ravel(), np.zeros(pairs)]))
        bounds.append(limit)
    found = linprog(
        np.concatenate([-objective.ravel(), np.zeros(pairs)]),  # linprog minimises
        csr_matrix(np.array(rows)) if rows else None,
        np.array(bounds) if rows else None,
        csr_matrix(flow),
        begin,
        method="highs",
    )
    if found.status != 0:
        return None
    # The solver's bounds hold to rounding.
    occupancy = found.x[:pairs].reshape(states, actions).clip(min=0.0)
    # pi(a|s) = d(s, a) / d(s); where the policy never comes, the behaviour policy's
    total = occupancy.sum(1, keepdims=True)
    policy = np.where(total > 1e-10, occupancy / np.maximum(total, 1e-300), mdp.behaviour)
    reward, cost = (float((occupancy * value).sum()) for value in (mdp.reward, mdp.cost))
    return Solution(policy, reward, cost)


def _divergence_rows(mdp: Mdp, s: int, epsilon: float) -> List[np.ndarray]:
    """TV(pi(.|s), pi_b(.|s)) <= epsilon as rows r (2 S A,): r @ unknowns <= 0."""
    states, actions = mdp.shape
    pairs = states * actions
    own = slice(s * actions, (s + 1) * actions)
    rows = []
    for a in range(actions):
        for sign in (1.0, -1.0):
            # +-(d(s, a) - d(s) pi_b(a|s)) - t(s, a) <= 0
            row = np.zeros(2 * pairs)
            row[own] = -sign * mdp.behaviour[s, a]
            row[s * actions + a] += sign
            row[pairs + s * actions + a] = -1.0
            rows.append(row)
    # sum_a t(s, a) / 2 - epsilon d(s) <= 0
    row = np.zeros(2 * pairs)
    row[pairs + s * actions : pairs + (s + 1) * actions] = 0.5
    row[own] = -epsilon
    return [*rows, row]


def eq4(mdp: Mdp, start: int, limit: float, epsilon: float) -> Optional[Solution]:
    """The usual problem: limits everywhere."""
    return solve(mdp, start, mdp.reward, limit, epsilon, np.ones(mdp.shape[0], bool))


def eq5(mdp: Mdp, start: int, limit: float, epsilon: float) -> Optional[Solution]:
    """The decoupled problem: by the region of the initial state."""
    safe = least_cost(mdp) <= limit + 1e-9  # (S,), up to the iteration's rounding
    if safe[start]:
        return solve(mdp, start, mdp.reward, limit, epsilon, safe)
    return solve(mdp, start, -mdp.cost, None, epsilon, np.zeros(mdp.shape[0], bool))


def example(epsilons: np.ndarray, limits: Tuple[float, ...]) -> List[Dict[str, Any]]:
    """The paper's claims about s2: feasibility and p = pi(a5 | s2), by limit and epsilon."""

    def entry(found: Optional[Solution]) -> Optional[Dict[str, float]]:
        if found is None:
            return None
        return {"p": float(found.policy[1, 1]), "cost": found.cost, "reward": found.reward}

    mdp, rows = paper_mdp(), []
    for limit in limits:
        for epsilon in map(float, epsilons):
            found = {"eq4": eq4(mdp, 1, limit, epsilon), "eq5": eq5(mdp, 1, limit, epsilon)}
            entries = {name: entry(solution) for name, solution in found.items()}
            rows.append({"limit": limit, "epsilon": epsilon, **entries})
    return rows


def theorem4(args: Figure2) -> Dict[str, Any]:
    """Check the theorem on random MDPs, from every state, at random limits and epsilons."""
    rng = np.random.default_rng(args.seed)
    names = [
        *("safe_states", "safe_eq4_feasible", "safe_eq5_feasible"),
        *("unsafe_states", "unsafe_eq4_feasible", "better", "violations"),
    ]
    counts = dict.fromkeys(names, 0)
    gains: List[float] = []
    worst = {"reward": 0.0, "cost": 0.0, "unsafe_cost": 0.0}
    for _ in range(args.mdps):
        mdp = random_mdp(rng, args.states, args.actions)
        least = least_cost(mdp)
        # A limit between the states' least costs, so that both regions have states.
        limit = float(np.quantile(least, rng.uniform(0.3, 0.9)))
        epsilon = float(rng.uniform(0.05, 0.9))
        for s in range(args.states):
            usual, decoupled = eq4(mdp, s, limit, epsilon), eq5(mdp, s, limit, epsilon)
            if least[s] > limit + 1e-9:
                counts["unsafe_states"] += 1
                counts["unsafe_eq4_feasible"] += usual is not None
                assert decoupled is not None  # nothing is constrained there
                excess = decoupled.cost - float(least[s])
                worst["unsafe_cost"] = max(worst["unsafe_cost"], excess)
                continue
            counts["safe_states"] += 1
            counts["safe_eq4_feasible"] += usual is not None
            counts["safe_eq5_feasible"] += decoupled is not None
            if decoupled is not None:
                worst["cost"] = max(worst["cost"], decoupled.cost - limit)
            if usual is None:
                continue  # the theorem compares with a solution of Eq. 4
            counts["violations"] += decoupled is None or decoupled.reward < usual.reward - 1e-6
            if decoupled is not None:
                gains.append(decoupled.reward - usual.reward)
                counts["better"] += gains[-1] > 1e-6
                worst["reward"] = max(worst["reward"], usual.reward - decoupled.reward)
    return {
        **counts,
        "gain_mean": float(np.mean(gains)),
        "gain_max": float(np.max(gains)),
        "gains": gains,
        "worst": worst,
    }


def run(args: Figure2) -> Dict[str, Any]:
    """Solve, tabulate and draw; returns what ``figure2.json`` holds.

    Raises:
        ValueError: scipy is missing.
    """
    if linprog is None:
        raise ValueError("figure2 needs scipy: pip install 'go2-sevpo[reproduce]'")
    from go2_sevpo.offline_training.reproduce.mdp import figure2_report as report

    result = {
        "command": "go2-reproduce figure2",
        "settings": {k: str(v) for k, v in vars(args).items()},
        "least_cost": least_cost(paper_mdp()).tolist(),
        "example": example(np.linspace(0.0, 1.0, 21), (0.5, 1.0, 1.5, 2.0)),
        "theorem4": theorem4(args),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_result(args.out / "figure2.json", result)
    text = report.table(result)
    write_atomically(args.out / "figure2.md", text)
    print(text)
    report.draw(result, args.out / "figure2.png")
    return result
