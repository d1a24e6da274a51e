"""``go2-robot record``: a robot's runs, or a virtual one's in lockstep, as a dataset."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict

from go2_sevpo.deploy.robot.arguments import Record
from go2_sevpo.deploy.robot.lockstep import Lockstep, acting
from go2_sevpo.deploy.robot.recorder import Recorder
from go2_sevpo.deploy.robot.run import (
    controlled,
    plant_settings,
    settings_of,
    status,
    virtual_course,
)
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs.arguments import at_least, check_writable
from go2_sevpo.runs.lock import sole_writer
from go2_sevpo.runs.progress import Progress


def record(args: Record) -> int:
    """Run the command."""
    policy = OnnxPolicy(find_policy(args.policy))
    check_writable(args.out)
    with sole_writer(args.out):
        if args.virtual:
            manifest = record_virtual(args, policy)
        else:
            recorder = Recorder(args.out, policy, {"robot": args.network.net})
            settings = settings_of(args.network, args.motion, args.goal)
            intent = f"stand the robot up, let {policy.path.stem} walk it, and record that"
            done = controlled(
                policy, True, args.network, args.motion, settings, intent, ready=recorder.attach
            )
            manifest = recorder.finish()
            print(_line(manifest))
            return status(done)
    print(_line(manifest))
    return 0


def _line(manifest: Dict[str, Any]) -> str:
    return (
        f"{manifest['episodes']} episodes, {manifest['transitions']} transitions, "
        f"{manifest['successes']} successes, {manifest['falls']} falls"
    )


def record_virtual(args: Record, policy: OnnxPolicy) -> Dict[str, Any]:
    """Episodes of the virtual robot in lockstep, each on a course of its own.

    Returns the manifest.

    Raises:
        ValueError: arguments that do not fit.
        DatasetError: nothing was recorded.
    """
    at_least("virtual", args.virtual, 1)
    info = {"robot": "virtual", **asdict(args.robot), "noise": args.noise}
    recorder, progress = Recorder(args.out, policy, info), Progress(args.virtual)
    for number in range(args.virtual):
        seed = args.robot.seed + number
        act = acting(policy, seed, args.noise)
        robot = plant_settings(args.robot, seed)
        lockstep = Lockstep(virtual_course(args.robot, number), policy.contract, act, robot)
        recorder.attach(lockstep.controller)
        episode = lockstep.run()
        # A fall seen by the truth alone ends the episode here, as an operator would who catches
        # the robot; what the robot noticed itself is in its costs.
        recorder.end_episode(*_outcome(episode.success, episode.fall))
        progress.advance(1)
        if (number + 1) % 10 == 0:
            print(f"{number + 1}/{args.virtual} episodes, {progress.text()}", flush=True)
    return recorder.finish()


def _outcome(success: bool, fall: bool) -> tuple:
    if success:
        return "goal", "policy"
    return ("supervisor", "operator") if fall else ("operator", "operator")
