"""Episodes of two policies, one after the other, with who acts at each step."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import torch

from go2_sevpo.data.shards import Episodes
from go2_sevpo.data_collection.sources import Source
from go2_sevpo.envs.go2.handover import Handover, Moments, uniform_steps
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.go2.rollout import Policy, Rollout, run_episodes

Records = List[Dict[str, Any]]
TABLE = ("return", "cost", "length", "success", "fall")
"""Of every episode."""


def hand_over(
    env: Go2Parkour, first: Policy, second: Policy, source: Source, seed: int
) -> Tuple[Rollout, np.ndarray]:
    """One episode per world, and who acted in each transition, 0 or 1, (rows,).

    Before a fall: ``first`` plays to its fall, then every world goes back to the moment drawn for
    it and ``second`` goes on. Worlds that do not fall, or fall too early, have no episode.

    Raises:
        ValueError: no world fell late enough.
    """
    # Another stream than the environment's and the policies' of the same seed.
    draw = torch.Generator().manual_seed(seed + 3_000_017)
    n = env.num_envs
    if source.after is not None:
        at = uniform_steps(*source.after, n, draw)
        both = Handover(env, first, second, at)
        rollout = run_episodes(env, both, seed, keep=True)
        return rollout, both.column().numpy()
    assert source.before_fall is not None
    ago = uniform_steps(*source.before_fall, n, draw).clamp_min(1)
    moments = Moments(ago[None])
    fallen = run_episodes(env, first, seed, keep=True, each_step=moments.keep)
    observations = moments.start(env, 0)
    rescued = run_episodes(env, second, seed, keep=True, start=observations)
    return _joined(fallen, rescued, moments.known[0].numpy(), ago.numpy())


def _joined(
    before: Rollout, after: Rollout, known: np.ndarray, ago: np.ndarray
) -> Tuple[Rollout, np.ndarray]:
    """Each world's rows up to ``ago`` steps before its fall, then those of who took over."""
    columns: Dict[str, List[np.ndarray]] = {key: [] for key in before.columns}
    who: List[np.ndarray] = []
    records: Records = []
    starts = [_starts(r.episodes) for r in (before, after)]
    for world in np.flatnonzero(known):
        first, second = before.episodes[world], after.episodes[world]
        parts = (
            slice(starts[0][world], starts[0][world] + first["length"] - ago[world]),
            slice(starts[1][world], starts[1][world] + second["length"]),
        )
        for key, found in columns.items():
            found += [before.columns[key][parts[0]], after.columns[key][parts[1]]]
        own = first["length"] - int(ago[world])
        who += [np.zeros(own, np.int64), np.ones(second["length"], np.int64)]
        earned, paid = (float(before.columns[key][parts[0]].sum()) for key in ("rewards", "costs"))
        records.append(
            {
                **second,
                "length": own + second["length"],
                "return": earned + second["return"],
                "cost": paid + second["cost"],
                "taken_over_at": own,
            }
        )
    joined = {key: np.concatenate(found) for key, found in columns.items()}
    return Rollout(records, before.steps + after.steps, joined), np.concatenate(who)


def _starts(records: Records) -> np.ndarray:
    """First row of every world's episode, (N,)."""
    lengths = np.array([r["length"] for r in records], dtype=np.int64)
    return np.cumsum(lengths) - lengths


def chosen(rollout: Rollout, who: np.ndarray, source: Source) -> Tuple[Rollout, np.ndarray]:
    """The episodes that the source asks for: all, or those that end in a fall.

    Raises:
        ValueError: none does.
    """
    if not source.falls_only:
        return rollout, who
    kept = np.array([r["fall"] for r in rollout.episodes], dtype=bool)
    if not kept.any():
        raise ValueError(
            f"none of {len(kept)} episodes of {' and '.join(source.policies)} ends in a fall, "
            "expected some (falls_only)"
        )
    rows = np.repeat(kept, [r["length"] for r in rollout.episodes])
    columns = {key: column[rows] for key, column in rollout.columns.items()}
    records = [r for r, keep in zip(rollout.episodes, kept) if keep]
    return Rollout(records, rollout.steps, columns), who[rows]


def episodes_of(rollout: Rollout, who: np.ndarray, names: Tuple[str, ...]) -> Episodes:
    """The episodes as a shard holds them; with a column of who acted if there are several."""
    records = rollout.episodes
    table = {k: np.array([r[k] for r in records]) for k in TABLE[:2]}
    for key in TABLE[2:]:
        table[key] = np.array([r[key] for r in records], dtype=np.int64)
    columns = dict(rollout.columns)
    if len(names) > 1:
        columns["actor"] = who
    return Episodes(columns, table, names)
