"""A robot's runs as a dataset of this project: shards and a manifest, for ``go2-train``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.deploy.robot.control import ControlStep
from go2_sevpo.deploy.robot.controller import Controller
from go2_sevpo.deploy.robot.judge import Judge
from go2_sevpo.deploy.robot.machine import Mode
from go2_sevpo.envs.contracts import contract_for
from go2_sevpo.envs.go2.rewards import DEFINITION, RewardWeights
from go2_sevpo.policies.onnx_policy import OnnxPolicy

SOURCE_DEFINITION = (
    "recorded by a robot: costs are what it can tell itself (tilt, force that does not go through "
    "the feet, a foot below the map's surface), rewards the task's measurable terms"
)
FLUSH_EVERY = 50
"""Episodes per shard."""
SHORTEST = 5
"""Steps; shorter runs are no episodes."""


class Recorder:
    """Collects the steps of one controller; :meth:`finish` writes what is left.

    Args:
        folder: of the dataset.
        policy: that acts.
        info: plain data about the source, kept with every shard.
    """

    def __init__(self, folder: Path, policy: OnnxPolicy, info: Mapping[str, Any]) -> None:
        self.folder, self.policy, self.info = folder, policy, dict(info)
        self._steps: List[ControlStep] = []
        self._rows: List[Dict[str, np.ndarray]] = []
        self._episodes: List[Dict[str, Any]] = []
        self._controller: Controller
        self._judge: Judge

    def attach(self, controller: Controller) -> None:
        """Record the steps of ``controller``."""
        self._controller = controller
        dt = float(self.policy.contract["control_dt"])
        self._judge = Judge(controller.observer, dt, RewardWeights())
        self._steps = []
        controller.on_step = self.add

    def add(self, step: ControlStep) -> None:
        """One step of the policy, or the observation after the last one."""
        self._steps.append(step)
        # A policy with a cost budget is told what the robot itself can tell.
        if step.actor == "end":
            self.end_episode()

    def _ended(self) -> Tuple[str, str]:
        """How the episode ended, and who ended it."""
        machine = self._controller.machine
        if machine.mode is Mode.DAMP:
            by_operator = machine.reason.startswith(("the operator", "done")) or (
                machine.reason.endswith("are over")
            )
            return ("operator", "operator") if by_operator else ("supervisor", "supervisor")
        if machine.reason == "the goal":
            return "goal", "policy"
        return "operator", "operator" if machine.reason == "the operator" else "supervisor"

    def end_episode(self, ended: str = "", by: str = "") -> None:
        """Judge and keep what was collected.

        ``ended`` and ``by`` are the machine's own unless given: ``goal``, ``operator`` (cut in the
        middle) or ``supervisor`` (a fall).
        """
        steps, self._steps = self._steps, []
        if not ended:
            ended, by = self._ended()
        if len(steps) <= SHORTEST or self._controller.goal is None:
            return
        self._judge.start()
        rewards, costs, reasons = [], [], {"fall": 0, "touch": 0, "gap": 0}
        for k, (before, after) in enumerate(zip(steps[:-1], steps[1:])):
            way = self._controller.goal - before.place.position[:2]
            direction = way / max(float(np.linalg.norm(way)), 1e-6)
            last = k == len(steps) - 2
            verdict = self._judge.judge(before, after, direction, ended if last else "")
            rewards.append(verdict.reward)
            costs.append(verdict.cost)
            for name in reasons:
                reasons[name] += int(getattr(verdict, name))
        observations = np.stack([s.observation for s in steps])
        n = len(rewards)
        terminal, timeout = np.zeros(n), np.zeros(n)
        # Goals and falls have no future; what the operator cuts has one.
        (timeout if ended == "operator" else terminal)[-1] = 1.0
        self._rows.append(
            {
                "observations": observations[:-1],
                "next_observations": observations[1:],
                "actions": np.stack([s.action for s in steps[:-1]]).astype(np.float32),
                "rewards": np.array(rewards, dtype=np.float32),
                "costs": np.array(costs, dtype=np.float32),
                "terminals": terminal.astype(np.float32),
                "timeouts": timeout.astype(np.float32),
            }
        )
        actors = [["policy", n - 1], [by, 1]] if by != "policy" else [["policy", n]]
        record = {
            "length": n,
            "return": float(np.sum(rewards)),
            "cost": float(np.sum(costs)),
            "success": ended == "goal",
            "fall": ended == "supervisor",
            "actors": actors,
            "cost_steps": reasons,
            "reason": self._controller.machine.reason,
        }
        self._episodes.append(record)
        if len(self._episodes) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the collected episodes as a shard, and the manifest."""
        if not self._episodes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self.folder.glob("robot_*.hdf5")))
        columns = {key: np.concatenate([rows[key] for rows in self._rows]) for key in shards.KEYS}
        table = {key: np.array([e[key] for e in self._episodes]) for key in shards.EPISODE_KEYS}
        info = {
            "source": {"policy": str(self.policy.path), "course": "robot", **self.info},
            "policy": self.policy.identity,
            "environment": self._environment(),
            "observation": self.policy.contract["observation"],
            "records": self._episodes,
        }
        path = self.folder / f"robot_{number:04d}.hdf5"
        shards.write_shard(path, shards.Episodes(columns, table), info)
        self._rows, self._episodes = [], []
        self._write_manifest()

    def _environment(self) -> Dict[str, Any]:
        name = self.policy.contract["environment"]
        return {"name": name, "definition": f"{DEFINITION} {SOURCE_DEFINITION}"}

    def _write_manifest(self) -> None:
        entries, sources = [], []
        for path in sorted(self.folder.glob("robot_*.hdf5")):
            info = shards.shard_info(path)
            info.pop("records", None)
            if info["source"] not in sources:
                sources.append(info["source"])
            entries.append(shards.shard_entry(path, shards.read_shard(path), info))
        contract = contract_for(self.policy.contract["environment"])
        common = {
            "environment": self._environment(),
            "observation": contract["observation"],
            "contract": json.loads(json.dumps(contract)),
            "sources": sources,
        }
        shards.write_manifest(self.folder, entries, common)

    def finish(self) -> Dict[str, Any]:
        """Write what is left; returns the manifest.

        Raises:
            DatasetError: nothing was recorded.
        """
        self.flush()
        return shards.read_manifest(self.folder)
