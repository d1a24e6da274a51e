"""A policy file played by onnxruntime."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import numpy as np

from go2_sevpo import assets
from go2_sevpo.policies.contract import CONTRACT_KEY, ContractError
from go2_sevpo.policies.onnx_graph import check_graph

SHIPPED = Path(assets.__file__).parent / "policies"
INPUTS, OUTPUTS = ("observation", "noise"), ("action", "cost_value", "candidate")
COST_INPUT = "spent_cost"
"""Third input of policies with a cost budget: the episode's cost so far, (B,)."""


def find_policy(name: Union[str, Path]) -> Path:
    """Path of a policy: an ONNX file, or the name of a shipped one.

    Raises:
        ContractError: no such file or shipped policy.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = SHIPPED / f"{name}.onnx"
    if shipped.is_file():
        return shipped
    known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.onnx"))) or "none"
    raise ContractError(f"no policy '{name}': not a file, and the shipped policies are {known}")


def _contract(text: str, path: Union[str, Path]) -> Dict[str, Any]:
    """The contract in a file's metadata.

    Raises:
        ContractError: it is not JSON, or does not say how the policy samples.
    """
    try:
        contract = json.loads(text)
        sampler = contract["sampler"]
        int(sampler["candidates"]), int(sampler["steps"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ContractError(
            f"{path} carries a contract that cannot be read ({error!r}); export it with go2-export"
        ) from None
    found: Dict[str, Any] = contract
    return found


class OnnxPolicy:
    """Loads a policy, checks that it is one, and acts in batches.

    Args:
        path: ONNX file.
        threads: onnxruntime's threads inside an operator; one thread keeps results independent of
            the machine.
        candidates: N; None takes the policy's own number. 1 plays the actor alone.

    Raises:
        ContractError: not an ONNX file, or not a policy of this project.
    """

    def __init__(
        self, path: Union[str, Path], threads: int = 1, candidates: Optional[int] = None
    ) -> None:
        import onnxruntime

        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        check_graph(self.path)
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # onnxruntime raises its own family of exceptions, all of them load failures.
            raise ContractError(
                f"{path} is not an ONNX file onnxruntime can load: {str(error).splitlines()[0]}"
            ) from error
        inputs = tuple(x.name for x in self.session.get_inputs())
        outputs = tuple(x.name for x in self.session.get_outputs())
        self.needs_cost = inputs == (*INPUTS, COST_INPUT)
        if outputs != OUTPUTS or (inputs != INPUTS and not self.needs_cost):
            raise ContractError(
                f"{path} has inputs {inputs} and outputs {outputs}, expected {INPUTS} and {OUTPUTS}"
            )
        text = self.session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY)
        if text is None:
            raise ContractError(
                f"{path} carries no contract (metadata '{CONTRACT_KEY}'); export it with go2-export"
            )
        self.contract = _contract(text, path)
        sampler = self.contract["sampler"]
        if candidates is not None and candidates < 1:
            raise ContractError(f"candidates is {candidates}, expected at least 1")
        # N, the sampler's choice among them, T, A; how many actions and observations were not
        # finite so far.
        self.candidates = candidates or int(sampler["candidates"])
        self.choice: str = sampler.get("choice", "first")
        self.steps = int(sampler["steps"])
        self.num_actions = int(self.session.get_inputs()[1].shape[-1])
        self.non_finite = self.bad_observations = 0

    @property
    def identity(self) -> Dict[str, Any]:
        """Name, hash and kind, for datasets and reports."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return {"name": self.path.stem, "sha256": digest, "kind": self.contract.get("kind", "?")}

    def noise_shape(self, batch: int) -> Tuple[int, int, int, int]:
        """Shape (B, N, T, A) of the noise input."""
        return (batch, self.candidates, self.steps, self.num_actions)

    def act(
        self,
        observation: np.ndarray,
        noise: np.ndarray,
        spent_cost: Optional[np.ndarray] = None,
    ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return action (B, A) in [-1, 1], cost value (B,) and candidate (B,).

        An action that is not finite becomes zero, the default pose held by the damped PD law, and
        is counted in ``non_finite``. Nothing follows from an observation that is not finite: its
        action is zero, its cost value infinite, and it is counted in ``bad_observations``.

        Args:
            observation: (B, S) float32, not normalised.
            noise: (B, N, T, A) float32, standard normal.
            spent_cost: (B,) the episodes' cost so far, which only policies with a budget need.

        Raises:
            ContractError: the policy has a cost budget and ``spent_cost`` is not given.
        """
        blind = ~np.isfinite(observation).all(axis=1)  # (B,)
        if blind.any():
            observation = np.where(blind[:, None], np.float32(0.0), observation)
            self.bad_observations += int(blind.sum())
        inputs = {"observation": observation, "noise": noise}
        if self.needs_cost:
            if spent_cost is None:
                raise ContractError(
                    f"{self.path} keeps a cost budget: "
                    "it needs the episode's cost so far, found none"
                )
            inputs[COST_INPUT] = spent_cost
        action, value, candidate = self.session.run(None, inputs)
        bad = ~np.isfinite(action).all(axis=1) & ~blind
        if bad.any():
            action = np.where(bad[:, None], 0.0, action).astype(np.float32)
            self.non_finite += int(bad.sum())
        if blind.any():
            action = np.where(blind[:, None], np.float32(0.0), action)
            value = np.where(blind, np.float32(np.inf), value)
        return action, value, candidate
