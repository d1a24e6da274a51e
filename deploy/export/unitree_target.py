"""``go2-export --target unitree``: a folder for Unitree's own runners.

====================  ==============================================================================
file                  for
====================  ==============================================================================
exported/policy.onnx  unitree_rl_lab's and unitree_rl_mjlab's C++ runner: input ``obs`` [1, n],
                      output ``actions`` [1, A], nothing that varies
params/deploy.yaml    the same runner
exported/policy.pt    unitree_rl_gym's ``deploy_real`` and ``deploy_mujoco``: the same as
                      TorchScript
unitree_rl_gym.yaml   the same scripts
go2.xml               ``deploy_mujoco``: the robot with torque motors
====================  ==============================================================================

Both policies take the observation in the runner's order (:mod:`unitree_layout`); the turn into ours
is inside, and so is the sampler's noise: it is zero where the policy is played without noise, else
drawn once from a seed, the same at every step. The metadata of the ONNX file says which.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
import yaml
from torch import nn

from go2_sevpo.deploy.export.graph import OLD_OPSET, OPSET, export_graph, new_torch
from go2_sevpo.deploy.export.unitree_layout import (
    Term,
    missing_terms,
    our_order,
    runner_config,
    runner_terms,
    scripts_config,
    torque_model,
)
from go2_sevpo.policies.contract import CONTRACT_KEY, ContractError, dump_contract
from go2_sevpo.policies.torch_policy import Policy
from go2_sevpo.runs.files import atomic_path, write_atomically

STATIC_KEY = "go2_sevpo.unitree"
NOISE_SEED = 0
ROWS = 64
"""Observations on which the files are held to the policy."""
TOLERANCE = 1e-5


class StaticPolicy(nn.Module):
    """Action (1, A) of an observation (1, S) in the runner's order; ``noise`` (1, N, T, A)."""

    index: torch.Tensor
    noise: torch.Tensor

    def __init__(self, policy: Policy, index: torch.Tensor, noise: torch.Tensor) -> None:
        super().__init__()
        self.policy = policy
        self.register_buffer("index", index)
        self.register_buffer("noise", noise)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.policy(torch.index_select(obs, 1, self.index), self.noise)[0]


class Guarded(nn.Module):
    """The traced policy behind a look at its observation, for scripts that fill it themselves.

    unitree_rl_gym's scripts know nothing of our map: what they leave at zero from ``first`` on is
    none of our observations. The robot then keeps the pose it has, for the script ends.
    """

    def __init__(self, traced: Any, size: int, first: int) -> None:
        super().__init__()
        self.traced, self.size, self.first = traced, size, first

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Action (1, A) of an observation (1, S)."""
        if obs.dim() != 2 or obs.shape[0] != 1 or obs.shape[1] != self.size:
            raise RuntimeError("expected one observation of the size num_obs")
        if self.first < self.size and bool((obs[:, self.first :] == 0.0).all()):
            raise RuntimeError(
                "the terms this script does not compute (missing_terms) are all zero"
            )
        return self.traced(obs)


def fixed_noise(policy: Policy, candidates: int, actions: int) -> Tuple[torch.Tensor, str]:
    """The noise (1, N, T, A) inside the files, and what it is."""
    sampler = policy.sampler
    shape = (1, candidates, int(sampler["steps"]), actions)
    scale = float(sampler.get("noise_scale", 1.0))
    if scale == 0.0:
        return torch.zeros(shape), "zero"
    generator = torch.Generator().manual_seed(NOISE_SEED)
    return scale * torch.randn(shape, generator=generator), f"fixed, seed {NOISE_SEED}"


def _trailing(terms: List[Term]) -> int:
    """Where the terms at the end begin that the runners do not compute; S if there are none."""
    place = sum(t.size * t.frames for t in terms)
    for term in reversed(terms):
        if term.registered:
            break
        place -= term.size * term.frames
    return place


def _write_onnx(
    static: StaticPolicy,
    example: torch.Tensor,
    out: Path,
    contract: Dict[str, Any],
    about: Dict[str, Any],
) -> None:
    """The static graph with the contract and what is said ``about`` this form of it."""
    import onnx

    opset = OPSET if new_torch() else OLD_OPSET
    export_graph(static, (example,), out, ["obs"], ["actions"], {}, opset)
    model = onnx.load(str(out))
    for key, value in ((CONTRACT_KEY, dump_contract(contract)), (STATIC_KEY, json.dumps(about))):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    onnx.save(model, str(out))


def _write_script(static: StaticPolicy, example: torch.Tensor, out: Path, first: int) -> None:
    """The same in TorchScript, guarded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes are constants on purpose
        traced = torch.jit.trace(static, (example,), check_trace=False)
        torch.jit.script(Guarded(traced, example.shape[1], first)).save(str(out))


def _difference(
    static: StaticPolicy, theirs: torch.Tensor, onnx_file: Path, script_file: Path
) -> float:
    """Largest difference of the written files' actions from the policy's, row by row.

    Where a policy chooses among candidates rounding may tip a tie: one row is not counted then.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    script = torch.jit.load(str(script_file))
    worst: List[float] = []
    with torch.no_grad():
        for row in theirs.split(1):
            expected = static(row)
            found = torch.from_numpy(session.run(["actions"], {"obs": row.numpy()})[0])
            errors = torch.stack([found - expected, script(row) - expected]).abs()
            # max() passes over what is no number.
            worst.append(float(errors.max()) if torch.isfinite(errors).all() else float("inf"))
    worst.sort()
    ties = 0 if static.policy.sampler["choice"] == "first" else 1
    return worst[-1 - ties] if len(worst) > ties else worst[-1]


_RUNNER = """\
# For the C++ runner of unitree_rl_lab and unitree_rl_mjlab, beside exported/policy.onnx.
# joint_ids_map: motor of each joint of the policy; stiffness and damping are by motor (SDK order).
# The sampler's noise inside the policy is {noise}. Targets are not limited to the joints' ranges.
"""
_SCRIPTS = """\
# For unitree_rl_gym's deploy_real and deploy_mujoco: put this folder into deploy/pre_train and this
# file into deploy/deploy_real/configs or deploy/deploy_mujoco/configs.
# Both scripts fill the observation themselves, in an order of their own: replace that part by
# observation_order (name, numbers, frames; a term's frames stand together, the oldest first; values
# clipped and scaled as params/deploy.yaml says). The policy stops a script that does not.
# The sampler's noise inside the policy is {noise}.
"""


def _text(config: Dict[str, Any], head: str, about: Dict[str, Any]) -> str:
    """A YAML file with its comments, the missing terms named among them."""
    lines = head.format(noise=about["noise"])
    if about["missing_terms"]:
        lines += "# Not computed there, to be registered or filled by you:\n"
        lines += "".join(f"#   {name} ({what})\n" for name, what in about["missing_terms"].items())
    return lines + yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=100)


def write_unitree(
    policy: Policy, contract: Dict[str, Any], observations: torch.Tensor, out: Path
) -> Dict[str, float]:
    """Write the folder ``out``; returns the largest difference of the files' actions.

    ``observations`` (B, S) are ours; on them both files must act as the policy does.

    Raises:
        ContractError: the policy is not a Go2's, needs more than an observation, its contract does
            not say what the observation consists of, or a file acts differently.
    """
    if contract["robot"] != "unitree_go2":
        raise ContractError(f"the policy is for '{contract['robot']}', expected 'unitree_go2'")
    if policy.needs_cost:
        raise ContractError(
            "the policy keeps a cost budget and needs the episode's cost so far, "
            "which Unitree's runners do not have"
        )
    if out.suffix == ".onnx" or out.is_file():
        raise ContractError(f"{out} names a file, --target unitree writes a folder: give --out")
    index = torch.tensor(our_order(contract))  # (S,)
    noise, what = fixed_noise(
        policy, int(contract["sampler"]["candidates"]), len(contract["joint_names"])
    )
    static = StaticPolicy(policy, index, noise).eval()
    ours = observations[:ROWS].float()
    theirs = torch.empty_like(ours)
    theirs[:, index] = ours  # (B, S)
    terms = runner_terms(contract)
    about = {
        "noise": what,
        "observation_order": [[t.name, t.size, t.frames] for t in terms],
        "missing_terms": missing_terms(contract),
    }
    # Made first: what they refuse is refused before anything is written.
    texts = {
        "go2.xml": torque_model(),
        "params/deploy.yaml": _text(runner_config(contract), _RUNNER, about),
        "unitree_rl_gym.yaml": _text(scripts_config(contract, out.resolve().name), _SCRIPTS, about),
    }
    with tempfile.TemporaryDirectory() as folder:
        onnx_file, script_file = Path(folder) / "policy.onnx", Path(folder) / "policy.pt"
        _write_onnx(static, theirs[:1], onnx_file, contract, about)
        _write_script(static, theirs[:1], script_file, _trailing(terms))
        difference = _difference(static, theirs, onnx_file, script_file)
        if not difference <= TOLERANCE:
            raise ContractError(
                f"the files for Unitree differ from the policy by {difference:.2e}, "
                f"expected at most {TOLERANCE:.0e}; nothing was written"
            )
        for file in (onnx_file, script_file):
            with atomic_path(out / "exported" / file.name) as temporary:
                temporary.write_bytes(file.read_bytes())
    for name, text in texts.items():
        write_atomically(out / name, text)
    return {"action": difference, "cost_value": 0.0}
