"""Latency of the robot runtime in real time: virtual robot and controller, two processes over lo.

``python -m benchmarks.robot_latency POLICY`` prints percentiles of the policy's period, of the time
from a state's sending to its command's, and the machine's load. Figures mean something on idle
cores only.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Dict, List

import numpy as np
import tyro

from go2_sevpo.deploy.robot.arguments import Network
from go2_sevpo.deploy.robot.control import ControlStep, Settings
from go2_sevpo.deploy.robot.controller import Controller
from go2_sevpo.deploy.robot.lockstep import acting
from go2_sevpo.deploy.robot.network import open_bus
from go2_sevpo.deploy.robot.realtime import control
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs import processes


@dataclass
class Args:
    """Measure latency over DDS on lo."""

    policy: tyro.conf.Positional[str] = "expert"
    """ONNX file, or the name of a shipped policy."""
    seconds: float = 15.0
    course: str = "flat"


def percentiles(values: List[float]) -> Dict[str, float]:
    """Median, 99th percentile and maximum, ms."""
    if not values:
        return {"count": 0}
    ms = 1000 * np.array(values)
    p50, p99 = np.percentile(ms, [50, 99])
    return {"count": len(ms), "p50": float(p50), "p99": float(p99), "max": float(ms.max())}


def measure(args: Args) -> Dict[str, object]:
    """Run both processes; returns the figures."""
    policy = OnnxPolicy(find_policy(args.policy))
    command = processes.module("go2_sevpo.deploy.robot.cli", "plant", "--course", args.course)
    child = processes.start([*command, "--seconds", str(args.seconds + 15.0), "--drift", "0"])
    steps: List[float] = []
    answers: List[float] = []
    load = os.getloadavg()[0]
    try:
        bus = open_bus(Network(), "measure latency with a virtual robot")

        def on_step(step: ControlStep) -> None:
            steps.append(time.monotonic())

        settings = Settings(automatic=True, goal=(50.0, 0.0))
        controller = Controller(bus, policy.contract, acting(policy, 0), settings, on_step)
        sent = [0]

        def each(now: float) -> None:
            state = controller.state
            if controller.counts["commands"] > sent[0] and state is not None and state.reserve:
                # The virtual robot stamps its states with the clock that all processes share.
                age = (int(time.monotonic() * 1e6) - state.reserve) & 0xFFFFFFFF
                answers.append(1e-6 * age)
            sent[0] = controller.counts["commands"]

        control(controller, bus, seconds=args.seconds, each=each)
        bus.close()
    finally:
        child.terminate()
        child.wait()
    return {
        "policy_period_ms": percentiles(np.diff(steps).tolist()),
        "state_to_command_ms": percentiles(answers),
        "ended": controller.machine.reason,
        "states": controller.counts["states"],
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "cores": os.cpu_count(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(tyro.cli(Args)), indent=1))
