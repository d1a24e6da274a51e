"""``go2-robot demo``: the virtual robot and its controller together, a table and a film."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any, Dict, List, Optional

from go2_sevpo.deploy.play.video import FPS, graphics_problem, write_mp4
from go2_sevpo.deploy.robot.arguments import Demo, Run
from go2_sevpo.deploy.robot.film import Film
from go2_sevpo.deploy.robot.lockstep import Episode, Lockstep, acting
from go2_sevpo.deploy.robot.plant.robot import DT
from go2_sevpo.deploy.robot.run import plant_settings, run, virtual_course
from go2_sevpo.metrics import percent, wilson
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs import processes
from go2_sevpo.runs.arguments import at_least, check_writable
from go2_sevpo.runs.provenance import write_result

_PICTURE_STEPS = round(1.0 / (FPS * DT))


def episode(args: Demo, policy: OnnxPolicy, number: int, film: Optional[Film]) -> Episode:
    """Episode ``number`` in lockstep, filmed if asked for."""
    seed = args.robot.seed + number
    on_step = None if film is None else film.on_step
    robot, course = plant_settings(args.robot, seed), virtual_course(args.robot, number)
    lockstep = Lockstep(course, policy.contract, acting(policy, seed), robot, on_step=on_step)

    def each_step(now: Lockstep) -> None:
        if film is not None and now.plant.steps % _PICTURE_STEPS == 0:
            mode, t = now.controller.machine.mode.value, now.plant.time
            seen = args.robot.perception
            film.picture(
                now.plant, f"{policy.path.stem} on {course.kind}, {seen}: {mode} {t:.1f} s"
            )

    return lockstep.run(each_step=each_step)


def table(args: Demo, episodes: List[Episode]) -> str:
    """The result as text."""
    n, rows = len(episodes), []
    for name in ("success", "fall"):
        count = sum(getattr(e, name) for e in episodes)
        rows.append(f"{name:8} {percent(count / n, wilson(count, n))}")
    seconds = sum(e.seconds for e in episodes) / n
    robot = args.robot
    head = f"{n} episodes on {robot.course}, {robot.perception}, drift x {robot.drift:g}"
    return "\n".join([head, *rows, f"{seconds:.1f} s an episode"])


def demo(args: Demo) -> int:
    """Run the command."""
    at_least("episodes", args.episodes, 1)
    policy = OnnxPolicy(find_policy(args.policy))
    check_writable(args.out)
    if args.real_time:
        return _real_time(args)
    film: Optional[Film] = None
    if args.film:
        problem = graphics_problem()
        film = Film() if problem is None else None
        if problem is not None:
            print(f"no film: {problem}", flush=True)
    episodes: List[Episode] = []
    for number in range(args.episodes):
        episodes.append(episode(args, policy, number, film if number == 0 else None))
        done = episodes[-1]
        how = "success" if done.success else "fall" if done.fall else done.modes[-1]
        print(f"episode {number}: {how} after {done.seconds:.1f} s", flush=True)
    if film is not None:
        print(f"film: {write_mp4(args.out / 'demo.mp4', film.frames)}")
        film.close()
    report: Dict[str, Any] = {
        "policy": policy.identity,
        "robot": asdict(args.robot),
        "episodes": [asdict(e) for e in episodes],
    }
    write_result(args.out / "report.json", report, indent=1)
    print(table(args, episodes))
    return 0


def _real_time(args: Demo) -> int:
    """Two processes over DDS: the virtual robot is a child of this one."""
    v = args.robot
    command = processes.module("go2_sevpo.deploy.robot.cli")
    command += ["plant", "--course", v.course, "--difficulty", str(v.difficulty)]
    command += ["--seed", str(v.seed), "--perception", v.perception, "--drift", str(v.drift)]
    child = processes.start([*command, "--seconds", "40"])
    try:
        x, y, _ = virtual_course(v).destination
        arguments = Run(args.policy, goal=(float(x), float(y)), odom_goal=True, once=True)
        arguments.motion.auto, arguments.motion.seconds = True, 30.0
        status = run(arguments)
    finally:
        child.terminate()
        child.wait()
    sys.stdout.flush()
    return status
