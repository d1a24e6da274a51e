"""``mujoco.rollout`` over a list of models, also for MuJoCo versions without its own thread pool.

Those are the last ones for Python 3.8.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Sequence

import mujoco
import numpy as np
from mujoco import rollout as mj_rollout


class Rollout(Protocol):
    """What is used of ``mujoco.rollout.Rollout``."""

    def rollout(
        self,
        model: Sequence[mujoco.MjModel],
        data: Sequence[mujoco.MjData],
        initial_state: np.ndarray,
        control: np.ndarray,
        *,
        nstep: int,
        state: np.ndarray,
        sensordata: np.ndarray,
        skip_checks: bool = True,
    ) -> None:
        """Roll out N worlds, world i with model i, for ``nstep`` = T physics steps.

        Fills ``state`` (N, T, S) and ``sensordata`` (N, T, K) from ``initial_state`` (N, S) and
        ``control`` (N, T, U).
        """

    def close(self) -> None:
        """End the threads."""


class ThreadedRollout:
    """:class:`Rollout` on ``nthread`` Python threads.

    The physics releases Python's lock, so threads help; a world's result depends on its own model
    and state alone.
    """

    def __init__(self, nthread: int) -> None:
        self._threads = max(nthread, 1)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def rollout(
        self,
        model: Sequence[mujoco.MjModel],
        data: Sequence[mujoco.MjData],
        initial_state: np.ndarray,
        control: np.ndarray,
        *,
        nstep: int,
        state: np.ndarray,
        sensordata: np.ndarray,
        skip_checks: bool = True,
    ) -> None:
        """See :class:`Rollout`."""
        n, control_spec = len(model), mujoco.mjtState.mjSTATE_CTRL.value

        def part(k: int) -> None:
            """Every ``threads``-th world, in the k-th thread's own data; rows are never shared."""
            for i in range(k, n, self._threads):
                row = slice(i, i + 1)
                mj_rollout.rollout(
                    model[i],
                    data[k],
                    initial_state[row],
                    control[row],
                    control_spec=control_spec,
                    skip_checks=True,
                    nroll=1,
                    nstep=nstep,
                    state=state[row],
                    sensordata=sensordata[row],
                )

        if self._pool is None:
            part(0)
        else:
            list(self._pool.map(part, range(self._threads)))

    def close(self) -> None:
        """See :class:`Rollout`."""
        if self._pool is not None:
            self._pool.shutdown()


def make_rollout(nthread: int) -> Rollout:
    """MuJoCo's own pool of ``nthread`` threads where there is one."""
    if hasattr(mj_rollout, "Rollout"):
        # 0 threads: rolled out by the caller's own.
        return mj_rollout.Rollout(nthread=nthread if nthread > 1 else 0)
    return ThreadedRollout(nthread)
