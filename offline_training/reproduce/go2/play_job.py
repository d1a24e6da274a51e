"""Play one policy of a benchmark: undisturbed, under pushes, and where another was about to fall.

Writes the outcome of every episode as a letter.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import torch
import tyro

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.contract import environment_contract
from go2_sevpo.envs.go2.description.robot import CONTROL_DT
from go2_sevpo.envs.go2.handover import Moments
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import Policy, onnx_policy, run_episodes
from go2_sevpo.envs.seeds import PLAY
from go2_sevpo.policies.contract import check_contract
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy
from go2_sevpo.runs.arguments import EXPECTED, at_least, complaint
from go2_sevpo.runs.files import write_atomically


@dataclass
class Args:
    """Play one policy of a benchmark."""

    policy: tyro.conf.Positional[str]
    """ONNX file, or the name of a shipped policy."""
    out: Path
    """JSON file."""
    course: str = "hard"
    episodes: int = 250
    seed: int = 0
    weak: str = "weak"
    """Policy whose falls the other one is to avert."""
    before: Tuple[float, ...] = ()
    """It takes over so many seconds before the weak one's fall; none: it does not."""
    survive: float = 2.0
    """Rescued is who has not fallen so many seconds after taking over."""
    push_speed: Optional[float] = None
    """Play under pushes of up to this along x and y, too, m/s."""
    simulator: str = "mujoco"
    threads: int = 1


def _config(args: Args, push_speed: Optional[float] = None) -> ParkourConfig:
    """Every episode on a course of its own."""
    randomization = Randomization()
    if push_speed is not None:
        randomization = replace(randomization, push_speed=push_speed)
    stream = PLAY.number(args.seed, 0, args.episodes)
    return ParkourConfig(
        num_envs=args.episodes,
        courses=(args.course,),
        variants=args.episodes,
        course_seed=stream,
        seed=stream,
        threads=args.threads,
        simulator=args.simulator,
        randomization=randomization,
    )


def actor(policy: OnnxPolicy, seed: int) -> Policy:
    """The policy as it is deployed: a Gaussian one at its mean, a diffusion one with its noise."""
    return onnx_policy(policy, seed, float(policy.contract["sampler"]["noise_scale"]))


def course_letters(args: Args, act: Policy, push_speed: Optional[float] = None) -> Tuple[str, List]:
    """Outcomes of whole episodes: s success, f fall, t neither; and their costs."""
    config = _config(args, push_speed)
    env = Go2Parkour(config)
    try:
        records = run_episodes(env, act, config.seed).episodes
    finally:
        env.close()
    letters = ["s" if r["success"] else "f" if r["fall"] else "t" for r in records]
    return "".join(letters), [round(r["cost"]) for r in records]


def rescue_letters(args: Args, act: Policy, weak: Policy) -> Dict[str, str]:
    """Outcomes of taking over before the weak policy's falls, by seconds.

    s: no fall for ``survive`` seconds; f: a fall; -: the weak policy did not fall, or too early.
    """
    config = _config(args)
    ago = torch.tensor([max(round(t / CONTROL_DT), 1) for t in args.before])
    env = Go2Parkour(config)
    try:
        moments = Moments(ago[:, None].expand(-1, args.episodes))
        run_episodes(env, weak, config.seed, each_step=moments.keep)
        found = {}
        for number, seconds in enumerate(args.before):
            start = moments.start(env, number)
            steps = round(args.survive / CONTROL_DT)
            records = run_episodes(env, act, config.seed, start=start, max_steps=steps).episodes
            known = moments.known[number].tolist()
            found[f"{seconds:g}"] = "".join(
                "-" if not k else "f" if r["fall"] else "s" for k, r in zip(known, records)
            )
    finally:
        env.close()
    return found


def play(args: Args) -> Dict[str, object]:
    """Play everything; returns and writes the outcomes.

    Raises:
        ValueError: arguments or policies that do not fit.
    """
    at_least("episodes", args.episodes, 1)
    torch.set_num_threads(1)
    policies = [OnnxPolicy(find_policy(name)) for name in (args.policy, args.weak)]
    for policy in policies:
        check_contract(policy.contract, environment_contract(), str(policy.path))
    seed = PLAY.number(args.seed, 0, args.episodes)
    # A fresh stream of noise for every part, so that each can be repeated alone.
    undisturbed, cost = course_letters(args, actor(policies[0], seed))
    found: Dict[str, object] = {"undisturbed": undisturbed, "cost": cost}
    if args.push_speed is not None:
        found["push"] = course_letters(args, actor(policies[0], seed), args.push_speed)[0]
    if args.before:
        acting = actor(policies[0], seed), actor(policies[1], seed)
        found["before"] = rescue_letters(args, *acting)
    found["non_finite"] = policies[0].non_finite
    write_atomically(args.out, json.dumps(found))
    return found


def main() -> None:
    """Play and say how it went."""
    args = tyro.cli(Args)
    try:
        found = play(args)
    except EXPECTED as error:
        sys.exit(complaint(error))
    outcome = str(found["undisturbed"])
    print(f"{args.policy}: {outcome.count('s')} of {len(outcome)} episodes succeed; {args.out}")


if __name__ == "__main__":
    main()
