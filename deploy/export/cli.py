"""Export a trained run to one ONNX file (``go2-export``).

Parity is proven before the file gets its name.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np
import torch
import tyro

from go2_sevpo.deploy.export.graph import OLD_OPSET, OPSET, export_graph
from go2_sevpo.deploy.export.graph import new_torch as _new_torch
from go2_sevpo.deploy.export.source import TORCH_SUFFIXES, find_source, recorded_layout
from go2_sevpo.deploy.export.torch_actor import read_actor, read_layout
from go2_sevpo.deploy.export.unitree import write_deploy_yaml
from go2_sevpo.deploy.export.unitree_target import write_unitree
from go2_sevpo.envs.contracts import contract_for
from go2_sevpo.envs.go2.contract import task_version, trained_ranges
from go2_sevpo.envs.go2.golden import GOLDEN_KEY, golden_records
from go2_sevpo.policies.contract import CONTRACT_KEY, ContractError, dump_contract
from go2_sevpo.policies.onnx_graph import add_metadata
from go2_sevpo.policies.onnx_policy import COST_INPUT, INPUTS, OUTPUTS, OnnxPolicy
from go2_sevpo.policies.torch_policy import (
    CHOICES,
    LIMITED,
    BudgetPolicy,
    ChosenPolicy,
    DiffusionPolicy,
    Policy,
    act,
    load_policy,
)
from go2_sevpo.runs.arguments import EXPECTED, at_least, complaint
from go2_sevpo.runs.files import atomic_path
from go2_sevpo.runs.interrupt import told_when_interrupted

TARGETS = ("onnx", "unitree")
TOLERANCE = 1e-5
"""Difference of torch and onnxruntime that is float rounding."""
PARITY_ROWS = 256
"""Of logged and of random observations, each."""


def _trace(policy: Policy, observations: torch.Tensor, candidates: int, out: Path) -> None:
    """Write the bare ONNX graph with free batch and candidate axes."""
    shape = (2, candidates, int(policy.sampler["steps"]), _action_size(policy))  # (B, N, T, A)
    example: Tuple[torch.Tensor, ...] = (observations[:2].contiguous(), torch.zeros(shape))
    names = list(INPUTS)
    if policy.needs_cost:
        example, names = (*example, torch.zeros(2)), [*names, COST_INPUT]
    axes = {name: {0: "batch"} for name in (*names, *OUTPUTS)}
    axes["noise"][1] = "candidates"
    opset = OPSET if _new_torch() else OLD_OPSET
    export_graph(policy, example, out, names, list(OUTPUTS), axes, opset)


def _action_size(policy: Policy) -> int:
    """Numbers A of an action."""
    shape = policy.describe()
    size: int = shape["action_size"] if "action_size" in shape else shape["sizes"][-1]
    return size


def write_onnx(
    policy: Policy,
    contract: Dict[str, Any],
    observations: torch.Tensor,
    out: Path,
    extra: Optional[Mapping[str, str]] = None,
) -> Dict[str, float]:
    """Export ``policy`` with its contract; returns the largest difference per output.

    ``extra`` metadata are written beside the contract.

    The file gets the name ``out`` after parity is proven on ``observations`` (B, S).

    Raises:
        ContractError: torch and onnxruntime disagree by more than 1e-5, or a contract field is
            missing.
    """
    import onnx

    text = dump_contract(contract)
    with atomic_path(out) as temporary:
        _trace(policy, observations, int(contract["sampler"]["candidates"]), temporary)
        model = onnx.load(str(temporary))
        for key, value in {CONTRACT_KEY: text, **(extra or {})}.items():
            add_metadata(model, key, value)
        onnx.checker.check_model(model)
        onnx.save(model, str(temporary))
        difference = parity(policy, OnnxPolicy(temporary), observations)
        # max() would pass over a difference that is no number, hence "not <=" below, too.
        worst = float(np.max([difference["action"], difference["cost_value"]]))
        if not worst <= TOLERANCE:
            raise ContractError(
                f"torch and onnxruntime differ by {worst:.2e}, "
                f"expected at most {TOLERANCE:.0e}; nothing was written"
            )
    return difference


def parity(
    policy: Policy, session: OnnxPolicy, observations: torch.Tensor, seed: int = 0
) -> Dict[str, float]:
    """Compare torch and onnxruntime on logged and on random observations, 256 of each at most.

    Returns the largest absolute difference of actions (rows with the same candidate) and cost
    values (relative above 1), and the share of rows whose candidates differ: float rounding may tip
    a tie between two candidates.

    Raises:
        ContractError: candidates differ in more than 1% of the rows.
    """
    generator = torch.Generator().manual_seed(seed)
    logged = observations[:PARITY_ROWS].float()  # (K, S)
    # Around the logged ones, wider where a number hardly varies: mean + (std + 0.1) normal.
    normal = torch.randn(PARITY_ROWS, logged.shape[1], generator=generator)
    random = logged.mean(0) + (logged.std(0) + 0.1) * normal
    obs = torch.cat([logged, random])  # (B, S)
    noise = torch.randn(session.noise_shape(len(obs)), generator=generator)  # (B, N, T, A)
    spent = torch.linspace(0.0, 20.0, len(obs))  # (B,)
    with torch.no_grad():
        action, value, candidate = (x.numpy() for x in act(policy, obs, noise, spent))
    got_action, got_value, got_candidate = session.act(obs.numpy(), noise.numpy(), spent.numpy())
    differ = candidate != got_candidate  # (B,)
    if differ.mean() > 0.01:
        raise ContractError(
            "torch and onnxruntime choose different candidates in "
            f"{100 * differ.mean():.1f}% of the rows, expected at most 1%"
        )
    # Another candidate is another action altogether: such rows are not compared.
    action_error = np.abs(action - got_action)[~differ]
    value_error = np.abs(value - got_value) / np.maximum(1.0, np.abs(value))
    return {
        "action": float(action_error.max()),
        "cost_value": float(value_error.max()),
        "candidates_differ": float(differ.mean()),
    }


@dataclass
class Args:
    """Export a trained run to one ONNX file."""

    run: tyro.conf.Positional[Path]
    """Run directory of go2-train or go2-train-expert, a policy file, or a PPO checkpoint model_N.pt
    of legged_gym, rsl_rl or extreme-parkour.
    """
    out: Path = Path("policy.onnx")
    """ONNX file to write; with the target unitree a folder."""
    candidates: Optional[int] = None
    """Candidates N the player draws by default; the run's own number if not given."""
    choice: Optional[str] = None
    """How a candidate is chosen: first, first_safe, escape, argmin_cost or argmax_reward; the run's
    own if not given.
    """
    limit: Optional[float] = None
    """Q_c up to which first_safe, escape and argmax_reward take a candidate, a discounted cost
    value; the run's own if not given.
    """
    temperature: Optional[float] = None
    """Sampling temperature; the run's own if not given."""
    acting_noise: Optional[float] = None
    """Share of the action noise that sampling in few steps loses and that is added again; the run's
    own if not given. Only for sevpo policies, whose training measures it.
    """
    layout: Optional[Path] = None
    """What the weights of a .pt checkpoint mean (deploy/export/layout.py); our own task's
    layout if not given.
    """
    budget: Optional[float] = None
    """Cost allowed per episode, for policies that are given a budget (ccac); the run's own if not
    given.
    """
    best: bool = False
    """Export the best policy of the evaluations during training instead of the last."""
    target: str = "onnx"
    """onnx: one file with a contract, for go2-play and your own programs. unitree: a folder for the
    runners of unitree_rl_lab, unitree_rl_mjlab and unitree_rl_gym.
    """


def export_run(args: Args) -> Dict[str, Any]:
    """Export; returns the parity numbers.

    Raises:
        CheckpointError: no policy in the run.
        ContractError: parity does not hold.
    """
    if args.target not in TARGETS:
        raise ContractError(f"target is '{args.target}', expected one of {', '.join(TARGETS)}")
    path = find_source(args.run, args.best)
    if args.choice is not None and args.choice not in CHOICES:
        raise ContractError(f"choice is '{args.choice}', expected one of {', '.join(CHOICES)}")
    if path.suffix in TORCH_SUFFIXES:
        return _export_torch_actor(path, args)
    policy, observations, info = load_policy(path, args.choice, args.temperature)
    if args.limit is not None:
        if not isinstance(policy, (DiffusionPolicy, ChosenPolicy)) or policy.choice not in LIMITED:
            chosen = policy.sampler["choice"]
            raise ContractError(
                f"limit {args.limit:g} for choice {chosen}, expected one of {', '.join(LIMITED)}"
            )
        policy.limit = args.limit
    if args.acting_noise is not None:
        if not isinstance(policy, DiffusionPolicy) or policy.lost_noise is None:
            raise ContractError(
                f"acting noise {args.acting_noise:g} for a {info.get('algorithm', '?')} policy, "
                "whose lost noise was not measured; expected a sevpo one"
            )
        at_least("acting-noise", args.acting_noise, 0)
        policy.acting_noise = args.acting_noise
    if args.budget is not None:
        if not isinstance(policy, BudgetPolicy) or args.budget < 0:
            raise ContractError(
                f"budget {args.budget:g} for a {info.get('algorithm', '?')} policy, "
                "expected 0 or more for a ccac one"
            )
        policy.budget = args.budget
    # Experts name their environment themselves, offline runs that of their dataset.
    dataset = info.get("dataset") or {}
    contract = contract_for(info.get("environment") or dataset.get("environment"))
    sampler = policy.sampler
    # Without a choice more than one candidate would be drawn in vain.
    own = info.get("candidates", 1) if sampler["choice"] != "first" else 1
    sampler["candidates"] = args.candidates or own
    contract.update({"kind": info.get("algorithm", "?"), "sampler": sampler, "provenance": info})
    extra: Dict[str, str] = {}
    if contract["robot"] == "unitree_go2" and task_version(contract) > 1:
        contract.update(_for_robots(sampler, _action_size(policy), info))
        extra[GOLDEN_KEY] = json.dumps(golden_records(_deterministic(policy, sampler)))
    if args.target == "unitree":
        return write_unitree(policy, contract, observations, args.out)
    found = write_onnx(policy, contract, observations, args.out, extra)
    if contract["robot"] == "unitree_go2":
        write_deploy_yaml(contract, args.out)
    return found


def _for_robots(sampler: Dict[str, Any], actions: int, info: Dict[str, Any]) -> Dict[str, Any]:
    """What version 2 of the contract says of the policy itself."""
    run = (info.get("config") or {}).get("env") or {}
    return {
        "trained_with": trained_ranges(run.get("randomization")),
        "noise": {
            "shape": ["batch", "candidates", "steps", "actions"],
            "candidates": sampler["candidates"],
            "steps": sampler["steps"],
            "actions": actions,
            "distribution": "independent standard normal numbers, times scale",
            "scale": sampler.get("noise_scale", 1.0),
        },
    }


def _deterministic(policy: Policy, sampler: Dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The policy's actions (B, A) without noise, at no cost so far."""

    def actions(observations: np.ndarray) -> np.ndarray:
        n = len(observations)
        shape = (n, int(sampler["candidates"]), int(sampler["steps"]), _action_size(policy))
        with torch.no_grad():
            action = act(
                policy, torch.from_numpy(observations), torch.zeros(shape), torch.zeros(n)
            )[0]
        return action.numpy()

    return actions


def _export_torch_actor(path: Path, args: Args) -> Dict[str, Any]:
    """Export an actor trained elsewhere.

    Parity is shown on random observations, for there are no logged ones.
    """
    layout = read_layout(args.layout, recorded_layout(path))
    policy = read_actor(path, layout)
    size = policy.sizes[0]
    contract = {**contract_for(None), **layout["contract"]}
    expected = contract["observation"]["size"]
    if expected != size:
        raise ContractError(
            f"the actor of {path} takes {size} numbers, "
            f"the environment's observation has {expected}; "
            "give the observation it was trained on in the layout's contract"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    provenance = {"algorithm": "ppo", "source": path.name, "sha256": digest, "layout": layout}
    sampler = {**policy.sampler, "candidates": 1}
    contract.update({"kind": "ppo", "sampler": sampler, "provenance": provenance})
    observations = torch.randn(256, size, generator=torch.Generator().manual_seed(0))
    if args.target == "unitree":
        return write_unitree(policy, contract, observations, args.out)
    found = write_onnx(policy, contract, observations, args.out)
    # Unitree's file describes our own environment; a layout's contract may differ from it.
    if contract["robot"] == "unitree_go2" and not layout["contract"]:
        write_deploy_yaml(contract, args.out)
    return found


def main() -> None:
    """Entry point of ``go2-export``."""
    with told_when_interrupted("stopped; nothing was written"):
        args = tyro.cli(Args)
        try:
            found = export_run(args)
        except EXPECTED as error:
            sys.exit(f"go2-export: {complaint(error)}")
        print(
            f"{args.out}: torch and onnxruntime agree, "
            f"largest action difference {found['action']:.1e}, "
            f"cost value {found['cost_value']:.1e}"
        )


if __name__ == "__main__":
    main()
