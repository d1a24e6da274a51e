"""The stage-wise trainer: progress, logs, checkpoints that resume bit for bit on a CPU."""

from __future__ import annotations

import copy
import signal
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch

from go2_sevpo.algorithms.base import Algorithm
from go2_sevpo.data.dataset import OfflineDataset
from go2_sevpo.offline_training.evaluation.best import CURVE, BestKeeper
from go2_sevpo.policies.torch_policy import save_policy
from go2_sevpo.runs.checkpoint import CheckpointError, load_newest, rotate, save_checkpoint
from go2_sevpo.runs.csv_log import append_row, forget_after
from go2_sevpo.runs.finite import check_gradients, check_state, check_values
from go2_sevpo.runs.progress import Progress
from go2_sevpo.runs.randomness import isolated_randomness

CHECKPOINT = "checkpoint.safetensors"
POLICY = "policy_last.safetensors"
BEST = "policy_best.safetensors"

SAME = ("algorithm", "config", "dataset", "seed", "members")
"""Provenance that must agree to go on from a checkpoint."""
SHOWN = (
    *("actor_loss", "v_loss", "q_loss", "v_c", "q_r"),
    *("safe_share", "unsafe_share", "clipped_share"),
)
"""Logged scalars that the progress lines show, of those an algorithm has."""


def member_folder(out: Path, member: int) -> Path:
    """Where a run of several members keeps the policy of one."""
    return out / f"member_{member:02d}"


class MetricLog:
    """Means of logged scalars, to CSV (one file per stage) and TensorBoard."""

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.out, self.writer = out, SummaryWriter(str(out / "tensorboard"))
        self._sums: Dict[str, torch.Tensor] = {}
        self._count = 0

    def add(self, metrics: Dict[str, torch.Tensor]) -> None:
        """Add one step's scalars; nothing is read back from the device yet."""
        for key, value in metrics.items():
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        self._count += 1

    def flush(self, stage: str, step: int, rate: float) -> Dict[str, float]:
        """Write the means since the last flush as the row of ``step``.

        Raises:
            NotFiniteError: one of them is not finite.
        """
        row = {"step": float(step), "steps_per_second": rate}
        # Here the sums are read back from the device.
        means = {key: float(s) / max(self._count, 1) for key, s in self._sums.items()}
        check_values(means, f"stage {stage}, steps up to {step}")
        row.update(means)
        self._sums, self._count = {}, 0
        append_row(self.out / f"{stage}.csv", row)
        for key, value in row.items():
            self.writer.add_scalar(f"{stage}/{key}", value, step)
        self.writer.flush()
        return row

    def state_dict(self) -> Dict[str, Any]:
        """What was added since the last flush, so that a resumed run writes the same row."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._sums, self._count = dict(state["sums"]), state["count"]


class Trainer:
    """Runs the stages of one algorithm on one dataset.

    Args:
        algorithm: see :class:`go2_sevpo.algorithms.base.Algorithm`.
        data: transitions in memory.
        out: run folder.
        info: provenance, saved with every policy and compared on resume.
        seed: of index draws, noise and dropout.
        log_every, save_every: in gradient steps.
        say: takes the progress lines.
        graphed: capture whole steps as CUDA graphs (:mod:`go2_sevpo.offline_training.graphs`).
        settled: asked after every evaluation; True ends the last stage.
        keeper: evaluates during the last stage and decides what the best policy is; None keeps only
            the last.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        data: OfflineDataset,
        out: Path,
        info: Dict[str, Any],
        seed: int,
        log_every: int = 200,
        save_every: int = 2000,
        say: Callable[[str], None] = print,
        keeper: Optional[BestKeeper] = None,
        graphed: bool = False,
        settled: Optional[Callable[[], bool]] = None,
    ) -> None:
        self.settled = settled
        self.algorithm, self.data, self.out, self.info = algorithm, data, out, info
        self.log_every, self.save_every, self.say = log_every, save_every, say
        self.generator = torch.Generator(device=data.device).manual_seed(seed)
        self.stage, self.step, self.keeper, self.graphed = 0, 0, keeper, graphed
        self._stop: List[int] = []
        self._log: Optional[MetricLog] = None
        self._unlogged: Optional[Dict[str, Any]] = None

    def save(self) -> None:
        """Write the checkpoint, and the policy for go2-export.

        Raises:
            NotFiniteError: a weight is not finite; what was there stays.
        """
        learned = self.algorithm.state_dict()
        check_state(learned, f"step {self.step} of stage number {self.stage + 1}")
        state = {
            "stage": self.stage,
            "step": self.step,
            "algorithm": learned,
            "info": self.info,
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "best": None if self.keeper is None else self.keeper.best,
            "log": None if self._log is None else self._log.state_dict(),
        }
        rotate(self.out / CHECKPOINT)
        save_checkpoint(self.out / CHECKPOINT, "offline", state)
        with isolated_randomness():
            for member in range(self.algorithm.members or 1):
                self._save_policy(member, POLICY, {})

    def _save_policy(self, member: int, name: str, more: Dict[str, Any]) -> None:
        """Write one policy with observations on which go2-export compares."""
        data = self.data
        # Evenly spread over the data
        shown = torch.linspace(0, len(data) - 1, 256).long().to(data.device)  # (256,)
        frames = data.frames[data.first[shown]] * data.std + data.mean  # (256, S) unnormalised
        frames = frames[:, : data.raw_obs].contiguous()  # without what is computed of the lidar
        info = {**self.info, "stage": self.stage, "step": self.step, **more}
        folder = self.out
        if self.algorithm.members is not None:
            folder, info = member_folder(self.out, member), {**info, "member": member}
            folder.mkdir(exist_ok=True)
        save_policy(folder / name, self.algorithm.policy(member=member), frames, info)

    def _evaluate(self) -> None:
        """Play every member; write ``policy_best.safetensors`` of those that were never better."""
        assert self.keeper is not None
        for member in range(self.algorithm.members or 1):
            # A copy: neither device nor mode of the trained networks may change.
            policy = copy.deepcopy(self.algorithm.policy(member=member)).cpu().eval()
            better, found = self.keeper.offer(member, self.step, policy)
            shown = "  ".join(f"{key} {value:.3g}" for key, value in found.items())
            mark = "  (best so far)" if better else ""
            self.say(f"evaluation at {self.step}, member {member}: {shown}{mark}")
            if better:
                self._save_policy(member, BEST, {"evaluation": found})

    def load(self) -> None:
        """Go on from the checkpoint, or from one before it if the last is damaged.

        Raises:
            CheckpointError: none there, damaged, or of another configuration or dataset.
        """
        state = load_newest(self.out / CHECKPOINT, "offline", self.say)
        for key in SAME:
            before, now = state["info"].get(key), self.info.get(key)
            if before != now:
                raise CheckpointError(f"{self.out} was begun with {key} {before}, now {now}")
        self.algorithm.load_state_dict(state["algorithm"])
        self.stage, self.step = state["stage"], state["step"]
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch_rng"].cpu())
        if self.keeper is not None:
            self.keeper.best = dict(state.get("best") or {})
        self._unlogged = state.get("log")
        self._forget_what_comes_again()

    def _forget_what_comes_again(self) -> None:
        """Take out of the logs what was done after the checkpoint."""
        stages = self.algorithm.stages
        for number in range(self.stage, len(stages)):
            step = self.step if number == self.stage else 0
            forget_after(self.out / f"{stages[number]}.csv", "step", step)
        last = len(stages) - 1  # the only one that is evaluated in
        if self.stage <= last:
            forget_after(self.out / CURVE, "step", self.step if self.stage == last else 0)

    def run(self, max_steps: Optional[int] = None) -> bool:
        """Train to the end, or until interrupted or ``max_steps`` more steps were done.

        Returns:
            Whether the end was reached.
        """
        # A signal lets the step end; then the checkpoint is written.
        self._forget_what_comes_again()
        previous = {
            number: signal.signal(number, lambda received, _: self._stop.append(received))
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            return self._run(max_steps)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _optimizers(self) -> Dict[str, torch.optim.Optimizer]:
        names = getattr(self.algorithm, "optimizers", ())
        return {name: getattr(self.algorithm, name) for name in names}

    def _plain_update(self, stage: str, step: int) -> Dict[str, torch.Tensor]:
        return self.algorithm.update(stage, step, self.data, self.generator)

    def _run(self, max_steps: Optional[int]) -> bool:
        log, left = self._log or MetricLog(self.out), max_steps
        self._log = log
        if self._unlogged is not None:
            log.load_state_dict(self._unlogged)
            self._unlogged = None
        update = self._plain_update
        if self.graphed:
            from go2_sevpo.offline_training.graphs import GraphedUpdates

            update = GraphedUpdates(self.algorithm, self.data, self.generator).update
        stages = self.algorithm.stages
        while self.stage < len(stages):
            name = stages[self.stage]
            total = self.algorithm.steps(name)
            is_last = self.stage == len(stages) - 1
            progress, last_log, last_time = Progress(total, self.step), self.step, 0.0
            while self.step < total:
                if self._stop or left == 0:
                    self.save()
                    return False
                log.add(update(name, self.step))
                self.step += 1
                left = None if left is None else left - 1
                if self.step % self.log_every == 0 or self.step == total:
                    progress.done, now = self.step, progress.seconds
                    row = log.flush(name, self.step, (self.step - last_log) / (now - last_time))
                    check_gradients(self._optimizers(), f"stage {name}, step {self.step}")
                    last_log, last_time = self.step, now
                    if self.step % (5 * self.log_every) == 0 or self.step == total:
                        self.say(_line(name, total, row, progress))
                if self.keeper is not None and is_last and self.keeper.due(self.step, total):
                    pause = time.perf_counter()
                    with isolated_randomness():
                        self._evaluate()
                    progress.paused += time.perf_counter() - pause  # no training time
                    if self.settled is not None and self.step < total and self.settled():
                        self.say(f"settled after {self.step} of at most {total} steps")
                        total = self.step
                if self.step % self.save_every == 0:
                    self.save()
            self.stage, self.step = self.stage + 1, 0
        self.save()
        return True


def _line(stage: str, total: int, row: Dict[str, float], progress: Progress) -> str:
    values = "  ".join(f"{key} {row[key]:.3g}" for key in SHOWN if key in row)
    done, rate = f"{row['step']:.0f}/{total}", f"{row['steps_per_second']:.0f} steps/s"
    return f"{stage} {done}  {rate}  {values}  {progress.text()}"
