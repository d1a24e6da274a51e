"""``mujoco.rollout`` over a list of models, for MuJoCo versions before it had a thread pool of its
own (Python 3.8).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Sequence

import mujoco
import numpy as np
from mujoco import rollout as mj_rollout


class ThreadedRollout:
    """The face of ``mujoco.rollout.Rollout``: world i is rolled out with model i, on ``nthread``
    Python threads.

    The physics releases Python's lock, so threads help; a world's result depends on its own model
    and state alone.
    """

    def __init__(self, nthread: int) -> None:
        self._threads = max(nthread, 1)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def rollout(
        self,
        model: Sequence[Any],
        data: Sequence[Any],
        initial_state: np.ndarray,
        control: np.ndarray,
        *,
        nstep: int,
        state: np.ndarray,
        sensordata: np.ndarray,
        skip_checks: bool = True,
    ) -> None:
        """Fill ``state`` (N, T, S) and ``sensordata`` (N, T, K) from ``initial_state`` (N, S),
        ``control`` (N, T, U).
        """
        n, control_spec = len(model), mujoco.mjtState.mjSTATE_CTRL.value

        def part(k: int) -> None:
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
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def make_rollout(nthread: int) -> Any:
    """MuJoCo's own pool where there is one."""
    if hasattr(mj_rollout, "Rollout"):
        return mj_rollout.Rollout(nthread=nthread if nthread > 1 else 0)
    return ThreadedRollout(nthread)
