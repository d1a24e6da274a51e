"""``go2-robot stand``, ``run``, ``plant`` and ``replay``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from go2_sevpo.deploy.robot.arguments import Motion, Network, Plant, Replay, Run, Stand, Virtual
from go2_sevpo.deploy.robot.bus import base
from go2_sevpo.deploy.robot.bus.base import Bus, BusError
from go2_sevpo.deploy.robot.control import Settings
from go2_sevpo.deploy.robot.controller import Controller
from go2_sevpo.deploy.robot.elevation import Grid
from go2_sevpo.deploy.robot.lockstep import acting
from go2_sevpo.deploy.robot.machine import Mode
from go2_sevpo.deploy.robot.messagelog import RecordingBus, ReplayBus, looks, read_log
from go2_sevpo.deploy.robot.network import open_bus
from go2_sevpo.deploy.robot.plant.robot import Plant as Robot
from go2_sevpo.deploy.robot.plant.settings import Drift, PlantSettings
from go2_sevpo.deploy.robot.realtime import control, simulate
from go2_sevpo.deploy.robot.supervisor import Limits
from go2_sevpo.envs.go2.description.course import Course, make_course
from go2_sevpo.envs.seeds import PLAY
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy

Ready = Callable[[Controller], None]
FLAT_EDGE = 8.0
"""m, edge of the level map that stands in for one."""


def plant_settings(robot: Virtual, seed: int, lying: bool = False) -> PlantSettings:
    """The virtual robot's settings from the command line's."""
    drift = Drift(0.02 * robot.drift, 0.01 * robot.drift, 0.5 * robot.drift)
    return PlantSettings(
        seed=seed,
        lying=lying,
        friction=robot.friction,
        payload=robot.payload,
        damping=robot.damping,
        delay=robot.delay,
        perception=robot.perception,
        perception_delay=robot.perception_delay,
        drift=drift,
        jitter=0.0 if lying else 0.15,
    )


def virtual_course(robot: Virtual, number: int = 0) -> Course:
    """Course number ``number`` of the virtual robot's seed: those go2-play plays on."""
    return make_course(robot.course, robot.difficulty, PLAY.number(robot.seed, number, 1))


def settings_of(network: Network, motion: Motion, goal: Tuple[float, float]) -> Settings:
    """The controller's settings from the command line's.

    Raises:
        BusError: what is for a virtual robot alone.
    """
    if motion.auto and network.net != "lo":
        raise BusError("--auto is for lo alone: on a robot the remote starts and stops it")
    # Unitree's simulator has 200 states a second; what arrives late shows as stale anyway.
    limits = Limits() if network.checksums else Limits(lost_share=1.0)
    return Settings(goal=goal, automatic=motion.auto, checksums=network.checksums, limits=limits)


def controlled(
    policy: OnnxPolicy,
    with_policy: bool,
    network: Network,
    motion: Motion,
    settings: Settings,
    intent: str,
    once: bool = False,
    flat_map: bool = False,
    ready: Optional[Ready] = None,
) -> Controller:
    """Open the bus, run the controller, print what became of it."""
    bus: Bus = open_bus(network, intent)
    if motion.log is not None:
        plain = json.loads(json.dumps(asdict(settings)))
        head = {"policy": str(policy.path.resolve()), "settings": plain, "act": with_policy}
        bus = RecordingBus(bus, motion.log, head)
    try:
        act = acting(policy, 0) if with_policy else None
        controller = Controller(bus, policy.contract, act, settings)
        if ready is not None:
            ready(controller)
        shown = [0]
        told: List[Optional[str]] = [None]

        def each(now: float) -> None:
            if flat_map:
                level_ground(controller, now)
            for _, mode, reason in controller.machine.history[shown[0] :]:
                print(f"{mode.value}: {reason}", flush=True)
                shown[0] += 1
            waits = controller.waits_for if controller.machine.mode is Mode.WAIT else None
            if waits != told[0] and waits is not None:
                print(f"WAIT: {waits}", flush=True)
            told[0] = waits

        if not motion.auto:
            print("waiting for the remote: start stands up, A the policy, L2+B damps", flush=True)
        control(controller, bus, once, motion.seconds, each)
        each(0.0)
    finally:
        bus.close()
    counts = ", ".join(
        f"{value} {name.replace('_', ' ')}" for name, value in controller.counts.items()
    )
    print(f"{counts}; ended: {controller.machine.reason}")
    return controller


def level_ground(controller: Controller, now: float) -> None:
    """Give the controller a level map at the height of the lowest foot."""
    if controller.place is None or controller.sensors is None:
        return
    soles = controller.soles(controller.sensors, controller.place)
    cell = 0.1
    corner = np.floor(controller.place.position[:2] / cell - FLAT_EDGE / 2 / cell) * cell
    heights = np.full((int(FLAT_EDGE / cell),) * 2, float(np.sort(soles[:, 2])[:2].mean()))
    controller.set_grid(Grid((float(corner[0]), float(corner[1])), cell, heights), now)


def stand(args: Stand) -> int:
    """``go2-robot stand``."""
    policy = OnnxPolicy(find_policy(args.policy))
    settings = settings_of(args.network, args.motion, (1.0, 0.0))
    intent = "stand the robot up and hold it"
    done = controlled(policy, False, args.network, args.motion, settings, intent)
    return status(done)


def run(args: Run) -> int:
    """``go2-robot run``."""
    policy = OnnxPolicy(find_policy(args.policy))
    settings = settings_of(args.network, args.motion, args.goal)
    if args.odom_goal:
        settings = replace(settings, goal_frame="odom")
    intent = f"stand the robot up and let {policy.path.stem} walk it"
    opened = (args.network, args.motion, settings, intent, args.once, args.flat_map)
    done = controlled(policy, True, *opened)
    return status(done)


def status(controller: Controller) -> int:
    """0 if it ended by itself or by the operator."""
    reason = controller.machine.reason
    ended = reason == "done" or reason.startswith("the operator") or reason.endswith("are over")
    return 0 if ended else 1


def plant(args: Plant) -> int:
    """``go2-robot plant``."""
    if args.network.net != "lo":
        raise BusError("the virtual robot is for lo alone: a real one may be on other interfaces")
    bus = open_bus(args.network, "be a virtual robot")
    course = virtual_course(args.robot)
    robot = Robot(bus, course, plant_settings(args.robot, args.robot.seed, args.lying))
    late = 0
    try:
        late = simulate(robot, args.seconds)
    except KeyboardInterrupt:
        pass
    finally:
        bus.close()
    truth = robot.truth
    print(
        f"{robot.time:.1f} s on {course.kind}: success {truth.success}, fall {truth.fall}, "
        f"{truth.distance:.2f} m from the destination; {robot.refused} commands refused, "
        f"{late} times behind the clock"
    )
    return 0


def replay_log(path: Path) -> Dict[str, Any]:
    """Replay a log; returns counts of looks and commands, and how many commands differ.

    Raises:
        LogError: not a log.
        OSError: no such file.
    """
    info, entries = read_log(path)
    policy = OnnxPolicy(find_policy(info["policy"]))
    plain = dict(info["settings"])
    plain["limits"], plain["goal"] = Limits(**plain["limits"]), tuple(plain["goal"])
    bus = ReplayBus()
    act = acting(policy, 0) if info["act"] else None
    controller = Controller(bus, policy.contract, act, Settings(**plain))
    result = {"looks": 0, "commands": 0, "different": 0}
    for now, came, sent in looks(entries):
        for kind, data in came:
            bus.incoming[base.TOPICS[kind].name].append(data)
        bus.sent.clear()
        controller.tick(now)
        result["looks"] += 1
        result["commands"] += len(sent)
        same = sum(a == b for a, b in zip(sent, bus.sent))
        result["different"] += max(len(sent), len(bus.sent)) - same
    return {**result, "modes": controller.modes}


def replay(args: Replay) -> int:
    """``go2-robot replay``."""
    result = replay_log(args.log)
    print("\n".join(result["modes"]))
    print(
        f"{result['looks']} looks, {result['commands']} commands, "
        f"{result['different']} of them different"
    )
    return 0 if result["different"] == 0 else 1
