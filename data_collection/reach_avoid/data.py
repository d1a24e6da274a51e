"""Mixed reach-avoid datasets of a given safe-to-unsafe ratio.

``python -m go2_sevpo.data_collection.reach_avoid.data`` makes one. What a ratio counts:
transitions. The safe part is made of whole expert episodes without a single hazard step that stay
on the map, from feasible starts; it is the same at every ratio. The unsafe part is made of whole
episodes of uniformly random actions, from starts anywhere on the map, kept if they spend at least
one step in the hazard; a lower ratio adds more of them.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import torch
import tyro

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.envs.reach_avoid import task
from go2_sevpo.envs.reach_avoid.truth import feasible_starts, load_truth
from go2_sevpo.envs.seeds import REACH_AVOID_DATA
from go2_sevpo.policies.onnx_policy import OnnxPolicy, find_policy

WORLDS = 500
"""Episodes simulated at once."""
Episode = Dict[str, np.ndarray]
"""Columns of one episode, T rows each."""
SAFE = "whole expert episodes without a hazard step that stay on the map, from feasible starts"
UNSAFE = "whole episodes of uniform random actions from anywhere, with at least one hazard step"


@dataclass
class Args:
    """Collect one reach-avoid dataset."""

    out: Path
    """Dataset folder."""
    ratio: float = 10.0
    """Safe to unsafe transitions; the paper has 19, 10 and 5."""
    safe: int = 400_000
    """Safe transitions, at least (episodes are whole)."""
    expert: str = "reach_avoid_expert"
    """Shipped policy or ONNX file."""
    noise: float = 1.0
    """Scale of the expert's own action noise (standard deviation 0.2)."""
    truth: Path = Path("runs/reach_avoid_truth.safetensors")
    """Cache of the ground truth, for the feasible starts; solved if missing."""
    seed: int = 0


def roll_out(starts: torch.Tensor, act: Callable[[torch.Tensor], torch.Tensor]) -> List[Episode]:
    """One episode from each of ``starts`` (B, 4); the columns of each.

    ``act`` maps observations (B, 5) to actions (B, 2). Beside the dataset's columns there are
    ``success``, ``left`` (the map) and ``constraint`` (h after the step, m).
    """
    env = task.ReachAvoid(len(starts), auto_reset=False)
    obs, rows = env.reset(starts), []
    for _ in range(task.MAX_STEPS):
        action = act(obs).clamp(-1.0, 1.0)
        nxt, reward, cost, terminated, truncated, info = env.step(action)
        flags = (terminated, truncated, info["success"], info["left"])
        h = task.constraint_value(task.state_of(nxt))  # of the state that the cost is of
        rows.append([obs, nxt, action, reward, cost, *(f.float() for f in flags), h])
        obs = nxt
    names = (*shards.KEYS, "success", "left", "constraint")
    columns = {k: torch.stack(c, 1).numpy() for k, c in zip(names, zip(*rows))}  # (B, 300, ...)
    # Worlds that have ended go on being simulated; what follows is cut off.
    ended = (columns["terminals"] + columns["timeouts"]) > 0
    lengths = np.where(ended.any(1), ended.argmax(1) + 1, task.MAX_STEPS)  # (B,)
    return [{k: c[i, :n] for k, c in columns.items()} for i, n in enumerate(lengths)]


def collect_until(
    rows: int,
    starts: Callable[[], torch.Tensor],
    act: Callable[[torch.Tensor], torch.Tensor],
    keep: Callable[[float, bool], bool],
) -> List[Episode]:
    """Whole episodes that have at least ``rows`` transitions together.

    ``starts`` draws states (B, 4), ``act`` is :func:`roll_out`'s, and ``keep`` says by an episode's
    cost and whether it left the map if it is taken.
    """
    found: List[Episode] = []
    count = 0
    while count < rows:
        for episode in roll_out(starts(), act):
            if keep(float(episode["costs"].sum()), bool(episode["left"][-1])):
                found.append(episode)
                count += len(episode["costs"])
                if count >= rows:
                    break
    return found


def to_episodes(found: List[Episode]) -> Episodes:
    """Join episodes; ``fall`` marks leaving the map."""
    keys = (*shards.KEYS, "constraint")
    columns = {k: np.concatenate([e[k] for e in found]).astype(np.float32) for k in keys}
    table = {
        "length": np.array([len(e["costs"]) for e in found]),
        "return": np.array([e["rewards"].sum() for e in found]),
        "cost": np.array([e["costs"].sum() for e in found]),
        "success": np.array([e["success"][-1] for e in found]),
        "fall": np.array([e["left"][-1] for e in found]),
    }
    return Episodes(columns, table)


def _parts(args: Args) -> Dict[str, List[Episode]]:
    """The episodes of the safe and of the unsafe part."""
    torch.set_num_threads(1)
    expert = OnnxPolicy(find_policy(args.expert))
    truth = load_truth(args.truth)
    draw = torch.Generator().manual_seed(REACH_AVOID_DATA.number(args.seed))
    # Safe episodes take some tens of steps: enough starts that few are drawn twice.
    pool_seed = REACH_AVOID_DATA.number(args.seed, 1)
    pool = feasible_starts(truth, math.ceil(args.safe / 10), pool_seed)

    def expert_action(obs: torch.Tensor) -> torch.Tensor:
        noise = args.noise * torch.randn(expert.noise_shape(len(obs)), generator=draw)
        return torch.from_numpy(expert.act(obs.numpy(), noise.numpy())[0])

    def feasible() -> torch.Tensor:
        return pool[torch.randint(len(pool), (WORLDS,), generator=draw)]

    def anywhere() -> torch.Tensor:
        return task.random_states(WORLDS, draw)

    def random_action(obs: torch.Tensor) -> torch.Tensor:
        return 2.0 * torch.rand(len(obs), task.NUM_ACTIONS, generator=draw) - 1.0

    def is_safe(cost: float, left: bool) -> bool:
        return cost == 0 and not left

    def is_unsafe(cost: float, left: bool) -> bool:
        return cost > 0

    wanted = round(args.safe / args.ratio)
    return {
        "safe": collect_until(args.safe, feasible, expert_action, is_safe),
        "unsafe": collect_until(wanted, anywhere, random_action, is_unsafe),
    }


def collect(args: Args) -> Dict[str, Any]:
    """Collect both parts and write the dataset; returns the manifest.

    Raises:
        ValueError: numbers that make no dataset.
        DatasetError: the folder already holds another dataset.
    """
    if args.ratio <= 0 or args.safe < 1:
        raise ValueError(f"ratio is {args.ratio} and safe {args.safe}, expected positive numbers")
    construction = {
        "ratio": args.ratio,
        "safe_transitions": args.safe,
        "expert": args.expert,
        "noise": args.noise,
        "seed": args.seed,
        "safe": SAFE,
        "unsafe": UNSAFE,
        "constraint": "depth inside the hazard after the step, m",
    }
    if (args.out / shards.MANIFEST).is_file():
        manifest = shards.read_manifest(args.out)
        if manifest.get("construction") != construction:
            raise DatasetError(
                f"{args.out} holds a dataset of another construction; use another --out"
            )
        return manifest
    parts = _parts(args)
    args.out.mkdir(parents=True, exist_ok=True)
    entries = [
        shards.write_shard(args.out / f"{name}.hdf5", to_episodes(found), {"part": name})
        for name, found in parts.items()
    ]
    environment = {
        "name": task.ENV_ID,
        "definition": "success: in the goal; fall: off the map; cost: steps in the hazard",
    }
    common = {
        "environment": environment,
        "contract": task.environment_contract(),
        "construction": construction,
    }
    return shards.write_manifest(args.out, entries, common)


def main() -> None:
    """Collect and say what was collected."""
    args = tyro.cli(Args)
    try:
        manifest = collect(args)
    except ValueError as error:
        sys.exit(f"reach_avoid_data: {error}")
    parts = {e["info"]["part"]: e["transitions"] for e in manifest["shards"]}
    print(f"{args.out}: {json.dumps(parts)} transitions in {manifest['episodes']} episodes")


if __name__ == "__main__":
    main()
