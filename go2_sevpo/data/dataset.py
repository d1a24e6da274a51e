"""Transitions in memory, ready for sampling. Nothing is ever sampled from an open file."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

import numpy as np
import torch

from go2_sevpo.data import shards
from go2_sevpo.data.dsrl.files import outcomes, read_dsrl
from go2_sevpo.data.shards import DatasetError, Episodes
from go2_sevpo.networks.lidar import Lidar, with_nearness

COLUMNS = ("actions", "rewards", "costs", "terminals", "timeouts")
MIN_STD = 0.05
"""Floor of the observation scale, so that a nearly constant number is not blown up."""


@dataclass
class Batch:
    """Transitions, all float32.

    Attributes:
        obs, next_obs: (B, S) normalised.
        act: (B, A) in [-1, 1].
        reward, cost, terminal, timeout: (B,); the last two are 0 or 1.
        index: (B,) int64, their rows in the dataset.
        fall: (B,), 1 on the last step of an episode that falls.
        constraint: (B,) value h of the constraint, above 0 where it is violated; None where the
            data hold none.
    """

    obs: torch.Tensor
    act: torch.Tensor
    reward: torch.Tensor
    cost: torch.Tensor
    next_obs: torch.Tensor
    terminal: torch.Tensor
    timeout: torch.Tensor
    index: Optional[torch.Tensor] = None
    fall: Optional[torch.Tensor] = None
    constraint: Optional[torch.Tensor] = None

    def part(self, first: int, count: int) -> Batch:
        """``count`` of the transitions, from number ``first`` on (of every member)."""
        axis = self.reward.dim() - 1
        found = {k: v.narrow(axis, first, count) for k, v in vars(self).items() if v is not None}
        return Batch(**found)


class OfflineDataset:
    """Episodes as tensors on one device.

    Observations are stored once: row i of the transitions uses frames ``first[i]`` and
    ``second[i]``. Within an episode the successor of a row is the next row's observation; each
    episode's last successor is stored behind it, and so are successors that differ from the next
    row (in files of others). Observations are normalised here, with ``mean`` and ``std`` (S,) over
    the data. With ``lidar`` networks also see how near things are
    (:func:`go2_sevpo.networks.lidar.with_nearness`); ``num_obs`` is what they see, ``raw_obs`` the
    observation's own size.

    Attributes:
        fall: (M,), 1 on the last step of an episode that falls.
        constraint: (M,) values of the constraint, if every part has them.
        actor: (M,) int64, who acted: a place in ``actors``; -1 where it was not recorded.
        actors: names of the policies that acted.
    """

    def __init__(
        self,
        parts: Iterable[Episodes],
        device: Union[str, torch.device] = "cpu",
        manifest: Optional[Dict[str, Any]] = None,
        lidar: Optional[Lidar] = None,
    ) -> None:
        """Take ``parts`` one by one.

        If they come from a generator, no more than one of them is held beside what is kept.

        Raises:
            DatasetError: no part.
        """
        self.device, self.manifest = torch.device(device), manifest or {}
        frames: List[np.ndarray] = []
        columns: Dict[str, List[np.ndarray]] = {k: [] for k in COLUMNS}
        tables: List[Dict[str, np.ndarray]] = []
        first: List[np.ndarray] = []
        second: List[np.ndarray] = []
        count = 0  # frames so far
        self.unfinished = 0  # rows that files have behind their last episode's end
        constraints: List[Optional[np.ndarray]] = []
        who: List[np.ndarray] = []
        self.actors: List[str] = []
        for part in parts:
            self.unfinished += part.unfinished
            constraints.append(part.columns.get("constraint"))
            who.append(self._who_acts(part))
            obs, successors = part.columns["observations"], part.columns["next_observations"]
            same = shards.true_successors(part)
            start = 0
            pieces: List[np.ndarray] = []
            for length in np.asarray(part.episodes["length"], dtype=np.int64):
                stop = start + length
                # Rows whose successor is not the next row's observation.
                odd = start + np.flatnonzero(~same[start:stop])
                # Frames: the episode's observations, its last successor, the odd ones' successors.
                pieces += [obs[start:stop], successors[stop - 1 : stop], successors[odd]]
                place = np.arange(count, count + length)
                after = place + 1
                after[odd - start] = count + length + 1 + np.arange(len(odd))
                first.append(place)
                second.append(after)
                count, start = count + length + 1 + len(odd), stop
            frames.append(np.concatenate(pieces))
            for key in COLUMNS:
                columns[key].append(part.columns[key])
            tables.append({k: np.asarray(v) for k, v in part.episodes.items()})
        if not tables:
            raise DatasetError("no episodes, expected at least one")

        def column(key: str) -> torch.Tensor:
            return torch.from_numpy(np.concatenate(columns[key])).float().to(self.device)

        self.first = torch.from_numpy(np.concatenate(first)).to(self.device)
        self.second = torch.from_numpy(np.concatenate(second)).to(self.device)
        raw = torch.from_numpy(np.concatenate(frames)).float()  # (F, raw_obs)
        del frames  # the largest arrays, no longer needed
        self.raw_obs, self.lidar = raw.shape[1], lidar
        raw = with_nearness(raw, lidar)
        self.mean, self.std = raw.mean(0), raw.std(0).clamp_min(MIN_STD)
        # In place and on the host: normalised as Normalizer does it.
        self.frames = raw.sub_(self.mean).div_(self.std).clamp_(-10.0, 10.0).to(self.device)
        self.mean, self.std = self.mean.to(self.device), self.std.to(self.device)
        self.act = column("actions").clamp_(-1.0, 1.0)
        self.reward, self.cost = column("rewards"), column("costs")
        self.terminal, self.timeout = column("terminals"), column("timeouts")
        self.episodes = {k: np.concatenate([t[k] for t in tables]) for k in tables[0]}
        self.fall = torch.zeros_like(self.cost)
        ends = torch.cumsum(self._lengths(), 0) - 1
        fell = torch.from_numpy(np.asarray(self.episodes["fall"]) > 0)
        self.fall[ends[fell].to(self.device)] = 1.0
        self.constraint: Optional[torch.Tensor] = None
        known = [c for c in constraints if c is not None]
        if len(known) == len(constraints):
            self.constraint = torch.from_numpy(np.concatenate(known)).float().to(self.device)
        self.actor = torch.from_numpy(np.concatenate(who)).to(self.device)
        self._cost_to_go: Optional[torch.Tensor] = None
        self.num_obs, self.num_actions = self.frames.shape[1], self.act.shape[1]

    def __len__(self) -> int:
        return len(self.reward)

    def sample(
        self,
        n: Union[int, Tuple[int, ...]],
        generator: torch.Generator,
        rows: Optional[torch.Tensor] = None,
    ) -> Batch:
        """Draw ``n`` transitions (a number, or a shape) with replacement.

        ``rows`` (m,), if given, are those to draw from; ``generator`` lives on this device.
        """
        top = len(self) if rows is None else len(rows)
        shape = (n,) if isinstance(n, int) else n
        # A number, then the row with that number among ``rows``.
        index = torch.randint(top, shape, generator=generator, device=self.device)
        return self.rows(index if rows is None else rows[index])

    def rows(self, index: torch.Tensor) -> Batch:
        """Return the transitions ``index`` (B,), or of any other shape."""
        return Batch(
            self.frames[self.first[index]],
            self.act[index],
            self.reward[index],
            self.cost[index],
            self.frames[self.second[index]],
            self.terminal[index],
            self.timeout[index],
            index,
            self.fall[index],
            None if self.constraint is None else self.constraint[index],
        )

    def _who_acts(self, part: Episodes) -> np.ndarray:
        """Places in ``actors``, (rows,); adds the part's names to them."""
        for name in part.actors:
            if name not in self.actors:
                self.actors.append(name)
        if not part.actors:
            return np.full(part.rows, -1, dtype=np.int64)
        places = np.array([self.actors.index(name) for name in part.actors], dtype=np.int64)
        column = part.columns.get("actor")
        own = np.zeros(part.rows, np.int64) if column is None else column.astype(np.int64)
        return places[own]

    def scale_rewards(self, factor: float) -> float:
        """Multiply all rewards by ``factor`` and return it.

        0 stands for the longest episode's steps over the range of returns (FISOR's).

        Raises:
            DatasetError: a negative factor, or 0 where all returns are alike.
        """
        if factor == 0:
            returns = np.asarray(self.episodes["return"], dtype=np.float64)
            spread = float(returns.max() - returns.min())
            if spread <= 0:
                raise DatasetError(
                    f"all episodes return {returns[0]:g}, "
                    "expected different returns to scale rewards by"
                )
            # Returns then differ by as much as the longest episode has steps.
            factor = float(np.max(self.episodes["length"])) / spread
        if factor < 0:
            raise DatasetError(f"reward scale is {factor:g}, expected 0 or more")
        self.reward *= factor
        return factor

    def return_scale(self) -> float:
        """The longest episode's steps over the range of returns; 1 where all returns are alike."""
        lengths = self._lengths()
        episode = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        returns = torch.zeros(len(lengths), dtype=torch.float64)
        returns.index_add_(0, episode, self.reward.double().cpu())
        spread = float(returns.max() - returns.min())
        return float(lengths.max()) / spread if spread > 0 else 1.0

    def _lengths(self) -> torch.Tensor:
        """Transitions of every episode, (E,), on the host."""
        return torch.from_numpy(np.asarray(self.episodes["length"], dtype=np.int64))

    @property
    def cost_to_go(self) -> torch.Tensor:
        """Undiscounted cost from every transition to its episode's end, itself included, (M,).

        Computed once.
        """
        if self._cost_to_go is None:
            lengths = self._lengths()
            # In float64, as the sums run over all of the data.
            cost = self.cost.double().cpu()
            total = torch.cumsum(cost, 0)
            after_end = torch.repeat_interleave(total[torch.cumsum(lengths, 0) - 1], lengths)
            before = total - cost
            self._cost_to_go = (after_end - before).float().to(self.device)
        return self._cost_to_go

    def last_row(self) -> torch.Tensor:
        """Row of the last transition of every transition's episode, (M,)."""
        lengths = self._lengths()
        return torch.repeat_interleave(torch.cumsum(lengths, 0) - 1, lengths).to(self.device)

    def episode_of_row(self) -> torch.Tensor:
        """Episode number of every transition, (M,)."""
        lengths = self._lengths()
        return torch.repeat_interleave(torch.arange(len(lengths)), lengths).to(self.device)

    def calm_rows(self, steps: int) -> torch.Tensor:
        """Rows (m,) behind which the data do not fall for ``steps`` steps, the row's included."""
        last = self.last_row()
        row = torch.arange(len(self), device=self.device)
        return ((self.fall[last] == 0) | (last - row >= steps)).nonzero()[:, 0]

    def actor_rows(self, name: str) -> torch.Tensor:
        """Rows (m,) in which the policy ``name`` acted.

        Raises:
            DatasetError: the data do not say that it ever did.
        """
        if name not in self.actors:
            known = ", ".join(self.actors) or "nobody"
            raise DatasetError(f"the data do not say that '{name}' acted; they name {known}")
        return (self.actor == self.actors.index(name)).nonzero()[:, 0]

    def safe_rows(self, cost_limit: float) -> torch.Tensor:
        """Rows (m,) of episodes without a fall whose summed cost is at most ``cost_limit``."""
        # Of episodes, (E,); then of their rows.
        safe = (self.episodes["cost"] <= cost_limit) & (self.episodes["fall"] == 0)
        return torch.from_numpy(safe).to(self.device)[self.episode_of_row()].nonzero()[:, 0]


@dataclass(frozen=True)
class FileOrigin:
    """What a file in DSRL's layout does not say itself."""

    environment: str
    """Its name."""
    lidar: Optional[int] = None
    """Index of the first lidar reading of its observations, which end with them; None: no lidar."""


def load(
    *folders: Union[str, Path],
    device: Union[str, torch.device] = "cpu",
    lidar_length: float = 0.0,
    origin_of: Callable[[Path], Optional[FileOrigin]] = lambda path: None,
) -> OfflineDataset:
    """Load dataset folders or DSRL-layout HDF5 files, several as one dataset.

    Args:
        folders: dataset folders, which say what they hold, or single files.
        device: where the transitions are kept.
        lidar_length: above 0: on tasks with a lidar, networks also see nearness with this length.
        origin_of: what a single file is of; None where it is not known.

    Raises:
        DatasetError: missing, damaged, inconsistent, or of different environments.
    """
    lidar: Optional[Lidar] = None
    manifests: List[Dict[str, Any]] = []
    files: List[Tuple[Callable[[Path], Episodes], Path]] = []
    for path in map(Path, folders):
        if path.is_dir() or not path.exists():
            manifests.append(shards.read_manifest(path))
            entries = manifests[-1]["shards"]
            files += [
                (functools.partial(shards.read_shard, digest=entry["sha256"]), path / entry["file"])
                for entry in entries
            ]
            continue
        files.append((read_dsrl, path))
        merged = outcomes(path)
        if merged is not None:
            kept: Dict[str, Any]
            kept = {k: merged[k] for k in ("environment", "observation") if k in merged}
            manifests.append({**kept, "shards": [{"sha256": merged["sha256"]}]})
            continue
        origin = origin_of(path)
        if origin is not None:
            if origin.lidar is not None and lidar_length > 0:
                lidar = (origin.lidar, lidar_length)
            environment = {"name": origin.environment}
            entry = {"sha256": shards.sha256(path)}
            manifests.append({"environment": environment, "shards": [entry]})
    # A generator: one file is in memory at a time.
    return OfflineDataset((read(path) for read, path in files), device, _joined(manifests), lidar)


def _joined(manifests: List[Dict[str, Any]]) -> Dict[str, Any]:
    """One manifest for several folders: the first, with all shards."""
    if not manifests:
        return {}
    one = manifests[0]
    for other in manifests[1:]:
        for key in ("environment", "observation"):
            if other.get(key) != one.get(key):
                raise DatasetError(f"datasets differ in {key}: {one.get(key)} and {other.get(key)}")
    return {**one, "shards": [e for m in manifests for e in m["shards"]]}
