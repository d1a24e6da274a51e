"""Entries of a nested configuration: what each one does, or that it is refused by its name.

An entry that is changed and does nothing is worse than an error: whoever changed it believes that
it did something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple

from go2_sevpo.envs.go2.description import robot as r

ENVIRONMENT = (
    *("env.num_envs", "env.episode_length_s"),
    *("terrain.courses", "terrain.shares", "terrain.curriculum", "terrain.num_rows"),
    *("terrain.num_cols", "terrain.max_difficulty", "terrain.difficulty", "terrain.course_seed"),
    *("terrain.random_start", "terrain.stuck_seconds"),
    *("domain_rand.", "rewards.scales.", "rewards.fall", "rewards.success"),
    *("rewards.target_speed", "noise.add_noise", "sim.dt", "control.decimation"),
    "sim.physx.num_threads",
)
"""Entries, or their beginnings, that the environment's own configuration has."""
TASK = (
    *("env.send_timeouts", "rewards.only_positive_rewards", "normalization.clip_observations"),
    *("normalization.clip_actions", "viewer.ref_env", "viewer.pos", "viewer.lookat"),
)
"""Entries that :class:`TaskOptions` has."""
ACCEPTED = ("seed", "env.test")
"""What scripts put in: legged_gym the seed; Unitree's play.py ``test``, real time, which a window
keeps anyway."""


@dataclass(frozen=True)
class TaskOptions:
    """What of a nested configuration the task does itself, beside the environment."""

    send_timeouts: bool
    """Whether PPO hears of time limits, so that it bootstraps through them."""
    only_positive_rewards: bool
    """Negative rewards become 0."""
    clip_observations: float
    clip_actions: float
    """Bounds on what goes out and comes in; actions in PPO's units."""
    ref_env: int
    """World that the camera follows."""
    camera: Tuple[float, ...]
    lookat: Tuple[float, ...]
    """Where the camera stands and looks, m from the robot's base, world axes."""


def leaves(cfg: object, prefix: str = "") -> Dict[str, Any]:
    """All entries of nested instances by path: ``{"env.num_envs": 4096, ...}``."""
    found: Dict[str, Any] = {}
    for name in dir(cfg):
        value = getattr(cfg, name)
        if name.startswith("_") or callable(value):
            continue
        plain = isinstance(value, (bool, int, float, str, list, tuple, dict, type(None)))
        if plain or not hasattr(value, "__dict__"):
            found[prefix + name] = value
        else:
            found.update(leaves(value, f"{prefix}{name}."))
    return found


def honoured(path: str) -> bool:
    """Whether changing the entry ``path`` changes something."""
    exact = path in ENVIRONMENT or path in TASK
    return exact or any(path.startswith(e) for e in ENVIRONMENT if e.endswith("."))


def check_entries(cfg: object, default: object) -> None:
    """Refuse what ``cfg`` has other than ``default`` and that does nothing.

    Raises:
        ValueError: naming the first such entry.
    """
    given, known = leaves(cfg), leaves(default)
    for path, value in given.items():
        if path in ACCEPTED:
            continue
        if path not in known:
            raise ValueError(
                f"the configuration has an entry {path}, which go2_parkour does not know; "
                f"known in its section: {', '.join(_beside(path, known)) or 'none'}"
            )
        if value != known[path] and not honoured(path):
            raise ValueError(
                f"{path} is {value!r}, and go2_parkour has it fixed at {known[path]!r} "
                "(the policy's contract rests on it)"
            )
    for path in known:
        if path not in given:
            raise ValueError(f"the configuration lacks the entry {path}")
    _check_values(given, known)


def _beside(path: str, known: Dict[str, Any]) -> Tuple[str, ...]:
    section = path.rpartition(".")[0]
    return tuple(k for k in known if k.rpartition(".")[0] == section)


def _check_values(given: Dict[str, Any], known: Dict[str, Any]) -> None:
    """Values that would act on nothing, or that contradict each other.

    ``terrain.num_rows`` without a curriculum is let pass: legged_gym's play.py sets it.
    """
    ignored = "difficulty" if given["terrain.curriculum"] else "max_difficulty"
    if given[f"terrain.{ignored}"] != known[f"terrain.{ignored}"]:
        raise ValueError(
            f"terrain.{ignored} is {given[f'terrain.{ignored}']:g}, and does nothing while "
            f"terrain.curriculum is {given['terrain.curriculum']}"
        )
    top = known["normalization.clip_actions"]
    if given["normalization.clip_actions"] > top:
        raise ValueError(
            f"normalization.clip_actions is {given['normalization.clip_actions']:g}, and "
            f"go2_parkour's actions end at {top:g} anyway"
        )
    step = given["sim.dt"] * given["control.decimation"]
    if abs(step - r.CONTROL_DT) > 1e-9:
        raise ValueError(
            f"sim.dt {given['sim.dt']:g} times control.decimation {given['control.decimation']} is "
            f"{step:g} s, and go2_parkour's control step is {r.CONTROL_DT:g} s: change both"
        )
    if not 0 <= given["viewer.ref_env"] < given["env.num_envs"]:
        raise ValueError(
            f"viewer.ref_env is {given['viewer.ref_env']}, expected one of the "
            f"{given['env.num_envs']} worlds"
        )


def task_options(cfg: Any) -> TaskOptions:
    """What the task does itself; ``cfg`` is a nested configuration, made while running."""
    return TaskOptions(
        send_timeouts=bool(cfg.env.send_timeouts),
        only_positive_rewards=bool(cfg.rewards.only_positive_rewards),
        clip_observations=float(cfg.normalization.clip_observations),
        clip_actions=float(cfg.normalization.clip_actions),
        ref_env=int(cfg.viewer.ref_env),
        camera=tuple(cfg.viewer.pos),
        lookat=tuple(cfg.viewer.lookat),
    )
