"""Play a policy file in simulation and report success and fall rates (``go2-play``)."""

from __future__ import annotations

from go2_sevpo.envs.simulators.isaacgym.early import prepare

prepare()  # Isaac Gym, if it is asked for, must be imported before torch

import sys
from typing import Any, Dict

import tyro

from go2_sevpo.deploy.play import safety_gymnasium as play_safety
from go2_sevpo.deploy.play.arguments import Args
from go2_sevpo.deploy.play.go2 import Trace, evaluate, inference_time, show
from go2_sevpo.deploy.play.report import write_report
from go2_sevpo.deploy.play.video import record_video
from go2_sevpo.envs.go2.contract import fitting_version
from go2_sevpo.envs.safety_gymnasium.tasks import task_of_environment
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs.arguments import EXPECTED, check_writable, complaint
from go2_sevpo.runs.interrupt import told_when_interrupted


def play(args: Args) -> Dict[str, Any]:
    """Run the command: evaluate, write report and video; returns the report."""
    policy = OnnxPolicy(find_policy(args.policy), candidates=args.candidates)
    if not args.viewer:
        check_writable(args.out)
    task = task_of_environment(policy.contract.get("environment"))
    if task is not None:
        return play_safety.play_safety(policy, task, args)
    if args.viewer:
        from go2_sevpo.deploy.play.viewer import view

        fitting_version(policy.contract, args.policy)
        view(policy, args)
        return {}
    trace = Trace()
    report = evaluate(policy, args, trace)
    report.update(inference_time(policy))
    args.out.mkdir(parents=True, exist_ok=True)
    video = record_video(policy, args, args.out / "video.mp4") if args.video else None
    write_report(args.out, report, trace.rows, video)
    return report


def main() -> None:
    """Entry point of ``go2-play``."""
    with told_when_interrupted("stopped; no report was written"):
        args = tyro.cli(Args)
        try:
            report = play(args)
        except (*EXPECTED, RuntimeError) as error:
            sys.exit(f"go2-play: {complaint(error)}")
        if "task" in report:
            print(play_safety.show(report))
            print(f"report: {args.out / 'report.json'}")
        elif report:
            print(show(report))
            print(f"report: {args.out / 'report.html'}")
        bad = report.get("non_finite_actions", 0)
        if bad:
            sys.exit(f"go2-play: {bad} actions were not finite; the default pose was held instead")
        bad = report.get("non_finite_observations", 0)
        if bad:
            sys.exit(f"go2-play: {bad} observations were not finite; the last good action was held")


if __name__ == "__main__":
    main()
