"""Generated data for Safety-Gymnasium tasks, in DSRL's layout (``go2-dsrl generate``).

Not DSRL's data, and named so. Careful and careless behaviour in the same states: scripted drivers
of many margins on the navigation tasks, gaits of many paces on Ant, linear policies from two random
searches (with and without a penalty on cost) on the other velocity tasks, all with action noise.
"""

from __future__ import annotations

import functools
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple, Union

import h5py
import numpy as np

from go2_sevpo.data import shards
from go2_sevpo.data.shards import DatasetError
from go2_sevpo.data_collection.safety_gymnasium.controllers import Driver, Linear, random_search
from go2_sevpo.data_collection.safety_gymnasium.drivers import DRIVERS
from go2_sevpo.data_collection.safety_gymnasium.gait import Gait, gait_search, random_gait
from go2_sevpo.envs.contracts import contract_for
from go2_sevpo.envs.safety_gymnasium.tasks import EPISODE_STEPS, Task
from go2_sevpo.envs.seeds import SAFETY_COLLECTION, SAFETY_GENERATION, SeedRange
from go2_sevpo.policies.contract import check_contract
from go2_sevpo.policies.onnx_policy import OnnxPolicy
from go2_sevpo.runs.files import atomic_path
from go2_sevpo.runs.progress import Progress
from go2_sevpo.runs.provenance import write_result

if TYPE_CHECKING:
    from go2_sevpo.envs.safety_gymnasium.environment import SafetyEnv

WALKED = ("AntVelocity",)
GAIT_ROUNDS = 40
"""Of the search behind the walked task."""
SEARCHED = ("HalfCheetahVelocity", "SwimmerVelocity")
SEARCHES = ((0.0, 80), (1.0, 50))
"""Random searches: penalty on cost, iterations (of 32 episodes).

The first one's later policies break the speed limit most of the time.
"""


def _search(work: Tuple[str, int, float, int]) -> List[Linear]:
    """One random search; its first snapshots hardly move and are left out."""
    from go2_sevpo.envs.safety_gymnasium.environment import make

    name, seed, penalty, iterations = work
    env = make(name)
    size = env.task.num_obs, env.task.num_actions
    say = functools.partial(print, flush=True)
    return random_search(env, *size, iterations, seed, penalty, say=say, keep=10)[2:]


def behaviours(task: Task, seed: int, processes: int) -> Draw:
    """What draws the controller of an episode.

    Raises:
        DatasetError: there is no behaviour for this task.
    """
    if task.name in DRIVERS:
        return DRIVERS[task.name]
    say = functools.partial(print, flush=True)
    if task.name in WALKED:
        gaits = gait_search(GAIT_ROUNDS, seed, processes, say=say)
        return functools.partial(random_gait, gaits=gaits)
    if task.name not in SEARCHED:
        known = ", ".join((*DRIVERS, *WALKED, *SEARCHED))
        raise DatasetError(
            f"no behaviour to generate data for {task.name} with, expected one of {known}"
        )
    work = [(task.name, seed, penalty, iterations) for penalty, iterations in SEARCHES]
    workers = min(max(processes, 1), len(work))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return _Snapshots([policy for found in pool.map(_search, work) for policy in found])


class _Snapshots:
    """Draws one of several linear policies, and its noise."""

    def __init__(self, policies: List[Linear]) -> None:
        self.policies = policies

    def __call__(self, rng: np.random.Generator) -> Linear:
        policy = self.policies[int(rng.integers(len(self.policies)))]
        return replace(policy, noise=float(rng.uniform(0.0, 0.2)))


class PolicyActor:
    """A policy file as the controller of one episode, sampling as it would in use."""

    def __init__(self, policy: OnnxPolicy, seed: int) -> None:
        self.policy, self.seed, self.spent = policy, seed, 0.0
        self.noise_scale = float(policy.contract["sampler"].get("noise_scale", 1.0))

    def act(self, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Action (A,) for one observation (S,)."""
        noise = (self.noise_scale * rng.normal(size=self.policy.noise_shape(1))).astype(np.float32)
        spent = np.array([self.spent], dtype=np.float32)
        rows = np.asarray(obs, np.float32)[None]  # (1, S)
        action: np.ndarray = self.policy.act(rows, noise, spent)[0][0]
        return action

    def spend(self, cost: float) -> None:
        """Note a step's cost, which policies with a budget are told."""
        self.spent += cost


class PolicyDraw:
    """Gives every episode the same policy; each process loads it once."""

    def __init__(self, path: Path, candidates: Optional[int] = None) -> None:
        self.path, self.candidates = path, candidates

    def __call__(self, rng: np.random.Generator) -> PolicyActor:
        """The controller of one episode."""
        key = f"{self.path}:{self.candidates}"
        if key not in _POLICIES:
            _POLICIES[key] = OnnxPolicy(self.path, candidates=self.candidates)
        return PolicyActor(_POLICIES[key], int(rng.integers(2**31)))


_POLICIES: Dict[str, OnnxPolicy] = {}
"""Loaded in this process, by path and number of candidates."""
Controller = Union[Driver, Gait, Linear, PolicyActor]
Draw = Callable[[np.random.Generator], Controller]
"""Gives the controller of an episode; it is handed to other processes."""


def describe(controller: Controller) -> List[float]:
    """What says how an episode was driven.

    A driver's margin, speed and noise; a gait's pace and noise; a linear policy's noise; a policy
    file's seed.
    """
    if isinstance(controller, Gait):
        return [round(x, 4) for x in (controller.pace, controller.noise)]
    if isinstance(controller, Driver):
        return [round(x, 4) for x in (controller.margin, controller.speed, controller.noise)]
    if isinstance(controller, PolicyActor):
        return [float(controller.seed)]
    return [round(controller.noise, 4)]


def one_episode(
    work: Tuple[str, Draw, SeedRange, int, int],
) -> Tuple[Dict[str, np.ndarray], List[float]]:
    """Columns of one episode in DSRL's layout, and what :func:`describe` says of its controller.

    ``work``: the task's name, what draws the controller, the range of seeds, the seed and the
    episode's number.
    """
    from go2_sevpo.envs.safety_gymnasium.environment import make

    name, draw, seeds, seed, number = work
    rng = np.random.default_rng(seeds.number(seed, number))
    controller = draw(rng)
    if name not in _ENVS:
        _ENVS[name] = make(name)
    env = _ENVS[name]
    rows: Dict[str, List[Any]] = {k: [] for k in shards.KEYS}
    obs, _ = env.reset(seed=seeds.number(seed, number))
    for _ in range(EPISODE_STEPS):
        action = controller.act(obs, rng)
        nxt, reward, terminated, truncated, info = env.step(action)
        spend = getattr(controller, "spend", None)
        if spend is not None:
            spend(info["cost"])
        timeout = truncated and not terminated
        values = (obs, nxt, action, reward, info["cost"], terminated, timeout)
        for key, value in zip(ORDER, values):
            rows[key].append(value)
        obs = nxt
        if terminated or truncated:
            break
    return {k: np.asarray(v, dtype=np.float32) for k, v in rows.items()}, describe(controller)


ORDER = shards.KEYS
"""What a step's values are written as."""
_ENVS: Dict[str, SafetyEnv] = {}
"""Made in this process, by the task's name."""


def file_name(task: Task, episodes: int) -> str:
    """Of a generated file; never DSRL's."""
    return f"generated_{task.name}_{episodes}.hdf5"


def generate(
    task: Task,
    episodes: int,
    seed: int,
    out: Path,
    processes: int,
    say: Callable[[str], None] = print,
) -> Dict[str, Any]:
    """Write ``out`` (HDF5) and the JSON beside it that says how it was made; returns the latter.

    The same for any number of processes.

    Raises:
        DatasetError: no behaviour for the task, or nothing asked for.
    """
    if episodes < 1:
        raise DatasetError(f"episodes is {episodes}, expected at least 1")
    SAFETY_GENERATION.number(seed, 0, episodes)  # refuses before the search, which takes long
    draw = behaviours(task, seed, processes)
    note = {"generated": True, "note": "made by go2-dsrl generate; not a DSRL file"}
    return write_episodes(task, draw, SAFETY_GENERATION, episodes, seed, out, processes, note, say)


def collect(
    task: Task,
    policy: Path,
    episodes: int,
    seed: int,
    out: Path,
    processes: int,
    candidates: Optional[int] = None,
    say: Callable[[str], None] = print,
) -> Dict[str, Any]:
    """Episodes of a policy file in the same layout: new data for another training.

    Raises:
        ContractError: the policy is not for the task.
        DatasetError: nothing asked for.
    """
    if episodes < 1:
        raise DatasetError(f"episodes is {episodes}, expected at least 1")
    loaded = OnnxPolicy(policy, candidates=candidates)
    check_contract(loaded.contract, contract_for(task.registered_id), str(policy))
    note = {
        "generated": True,
        "note": "collected with a policy; not a DSRL file",
        "policy": loaded.identity,
    }
    draw = PolicyDraw(policy, candidates)
    return write_episodes(task, draw, SAFETY_COLLECTION, episodes, seed, out, processes, note, say)


def write_episodes(
    task: Task,
    draw: Draw,
    seeds: SeedRange,
    episodes: int,
    seed: int,
    out: Path,
    processes: int,
    note: Dict[str, Any],
    say: Callable[[str], None],
) -> Dict[str, Any]:
    """Play ``episodes`` episodes; write them and, as JSON beside them, what is known of them.

    Each has a controller of its own from ``draw`` and a seed of ``seeds``; ``note`` goes into the
    JSON, which is returned.

    Raises:
        ValueError: a seed or a number of episodes that ``seeds`` has no room for.
    """
    seeds.number(seed, 0, episodes)
    work = [(task.name, draw, seeds, seed, k) for k in range(episodes)]
    progress = Progress(episodes)
    parts: List[Dict[str, np.ndarray]] = []
    controllers: List[List[float]] = []
    with multiprocessing.get_context("spawn").Pool(max(processes, 1)) as pool:
        for columns, controller in pool.imap(one_episode, work):
            parts.append(columns)
            controllers.append(controller)
            if len(parts) % 25 == 0 or len(parts) == episodes:
                progress.done = len(parts)
                say(
                    f"{task.name}: {len(parts)}/{episodes} episodes, "
                    f"{progress.rate:.1f} episodes/s, {progress.text()}"
                )
    with atomic_path(out) as temporary, h5py.File(temporary, "w") as handle:
        for key in shards.KEYS:
            data = np.concatenate([p[key] for p in parts])
            handle.create_dataset(key, data=data, compression="gzip", compression_opts=1)
    costs, returns = (np.array([p[k].sum() for p in parts]) for k in ("costs", "rewards"))  # (E,)
    safe = costs <= 10
    made = {
        "task": task.name,
        **note,
        "seed": seed,
        "episodes": episodes,
        "transitions": int(sum(len(p["rewards"]) for p in parts)),
        "controllers": controllers,
        "safe_episodes": int(safe.sum()),
        "return_mean": float(returns.mean()),
        "return_max": float(returns.max()),
        "safe_return_max": float(returns[safe].max()) if safe.any() else None,
        "cost_mean": float(costs.mean()),
        "cost_max": float(costs.max()),
        "sha256": shards.sha256(out),
    }
    write_result(out.with_suffix(".json"), made, indent=1)
    return made
