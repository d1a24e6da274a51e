"""Playing policies on the reach-avoid task, and the numbers reported about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np
import torch

from go2_sevpo.envs.reach_avoid import task
from go2_sevpo.envs.reach_avoid.truth import Truth, certify
from go2_sevpo.metrics import wilson
from go2_sevpo.policies.torch_policy import DiffusionPolicy, Policy, act

OUTCOMES = "slt"
"""Codes of how an episode ended: in the goal (s), off the map (l), out of time (t)."""


@dataclass
class Starts:
    """Evaluation starts, each (B, 4)."""

    paper: torch.Tensor
    feasible: torch.Tensor
    infeasible: torch.Tensor
    least: torch.Tensor
    """The least violation, steps, that was achieved from the infeasible ones, (B,)."""


@dataclass
class Episodes:
    """Per episode: steps in the hazard (B,), outcome code (B,), steps (B,)."""

    violations: np.ndarray
    outcome: np.ndarray
    steps: np.ndarray

    def packed(self) -> Dict[str, Any]:
        """Plain data: one letter and one number per episode."""
        return {
            "violations": self.violations.astype(int).tolist(),
            "outcome": "".join(OUTCOMES[i] for i in self.outcome),
        }


def evaluation_starts(truth: Truth, n: int, paper_repeats: int, seed: int) -> Starts:
    """The paper's start, ``n`` feasible starts and ``n`` infeasible ones.

    Feasible means driven: the greedy control on the table reached the goal without violation.
    Infeasible means at least one step by the table and by the greedy control; its count is the
    reference for the least violation.
    """
    draw = torch.Generator().manual_seed(seed)
    feasible: List[torch.Tensor] = []
    infeasible: List[torch.Tensor] = []
    least: List[torch.Tensor] = []
    while sum(map(len, feasible)) < n or sum(map(len, infeasible)) < n:
        states = task.random_states(4000, draw)  # (4000, 4)
        table = truth.least_violation(states)
        clear = states[table < 0.01][:1000]
        proof = certify(truth, clear, True)
        feasible.append(clear[proof["success"] & (proof["cost"] == 0)])
        doomed = states[table >= 1.0]
        found = certify(truth, doomed, False)["cost"]
        infeasible.append(doomed[found >= 1])
        least.append(found[found >= 1])
    paper = torch.tensor([task.PAPER_START]).repeat(paper_repeats, 1)
    return Starts(paper, torch.cat(feasible)[:n], torch.cat(infeasible)[:n], torch.cat(least)[:n])


def play(
    policy: Policy,
    starts: torch.Tensor,
    candidates: int,
    seed: int,
    keep_paths: bool = False,
) -> Tuple[Episodes, List[np.ndarray]]:
    """One episode from each of ``starts`` (B, 4), choosing among ``candidates`` actions a step.

    Finished worlds are not computed further. Paths (T, 4), the start included, are empty unless
    they are kept.
    """
    n, steps, actions = len(starts), policy.sampler["steps"], task.NUM_ACTIONS
    draw = torch.Generator().manual_seed(seed)
    state, active = starts.clone(), torch.arange(n)
    # Out of time (2) unless something happens before.
    violations, outcome = torch.zeros(n), torch.full((n,), 2)
    length = torch.full((n,), task.MAX_STEPS)
    paths: List[List[np.ndarray]] = [[s.numpy()] for s in starts] if keep_paths else []
    for k in range(task.MAX_STEPS):
        noise = torch.randn(len(active), candidates, steps, actions, generator=draw)
        with torch.no_grad():
            action = act(policy, task.observe(state[active]), noise, violations[active])[0]
        moved = task.advance(state[active], action)
        state[active] = moved
        violations[active] += task.in_hazard(moved).float()
        if keep_paths:
            for i, s in zip(active.tolist(), moved):
                paths[i].append(s.numpy())
        success, left = task.at_goal(moved), task.outside(moved)
        outcome[active[success]] = 0
        outcome[active[left & ~success]] = 1
        length[active[success | left]] = k + 1
        active = active[~(success | left)]
        if not len(active):
            break
    episodes = Episodes(violations.numpy(), outcome.numpy(), length.numpy())
    return episodes, [np.stack(p) for p in paths]


def rate(hits: np.ndarray) -> Dict[str, Any]:
    """A rate with Wilson's interval."""
    return {
        "rate": float(hits.mean()),
        "interval": list(wilson(int(hits.sum()), len(hits))),
        "n": len(hits),
    }


def region_agreement(policy: Policy, starts: Starts) -> Dict[str, float]:
    """Shares of feasible starts that the policy's cost value calls safe, and of infeasible unsafe.

    Empty for a policy without cost value.
    """
    if not isinstance(policy, DiffusionPolicy) or policy.cost_value is None:
        return {}
    cost_value = policy.cost_value
    with torch.no_grad():
        feasible, infeasible = (
            cost_value(policy.normalizer(task.observe(s)))
            for s in (starts.feasible, starts.infeasible)
        )
    return {
        "feasible_called_safe": float((feasible <= policy.limit).float().mean()),
        "infeasible_called_unsafe": float((infeasible > policy.limit).float().mean()),
    }


def evaluate(policy: Policy, starts: Starts, candidates: int, seed: int) -> Dict[str, Episodes]:
    """Episodes from the three kinds of starts."""
    groups = (starts.paper, starts.feasible, starts.infeasible)
    found, _ = play(policy, torch.cat(groups), candidates, seed)
    ends = np.cumsum([len(g) for g in groups])
    parts = {}  # cut the one batch into the groups again
    for name, stop, group in zip(("paper", "feasible", "infeasible"), ends, groups):
        rows = slice(stop - len(group), stop)
        parts[name] = Episodes(found.violations[rows], found.outcome[rows], found.steps[rows])
    return parts


def summarise(members: List[Dict[str, Episodes]], starts: Starts) -> Dict[str, Any]:
    """Rates over all members' episodes, and the spread of the members' own rates."""
    result: Dict[str, Any] = {}
    for name in ("paper", "feasible"):
        safe = [m[name].violations == 0 for m in members]
        success = [m[name].outcome == 0 for m in members]
        both = [a & b for a, b in zip(safe, success)]
        result[name] = {
            "safe": rate(np.concatenate(safe)),
            "success": rate(np.concatenate(success)),
            "safe_success": rate(np.concatenate(both)),
            "left": rate(np.concatenate([m[name].outcome == 1 for m in members])),
            "safe_success_by_member": [float(b.mean()) for b in both],
            "violations": float(np.mean([m[name].violations.mean() for m in members])),
        }
    # Where violation cannot be avoided: how many times the least one was needed.
    least = starts.least.numpy()
    ratios = [float(m["infeasible"].violations.mean() / least.mean()) for m in members]
    result["infeasible"] = {
        "violations": float(np.mean([m["infeasible"].violations.mean() for m in members])),
        "least": float(least.mean()),
        "ratio": float(np.mean(ratios)),
        "ratio_by_member": ratios,
        "success": rate(np.concatenate([m["infeasible"].outcome == 0 for m in members])),
    }
    return result
