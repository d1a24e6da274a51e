"""One world behind gymnasium's interface.

``import go2_sevpo.envs.go2; gymnasium.make("go2_sevpo/Go2Parkour-v2")``; ``-v0`` is version 1 of
the task.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import gymnasium
import numpy as np
import torch

from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.parkour import Go2Parkour
from go2_sevpo.envs.seeds import GYMNASIUM


class Go2ParkourGym(gymnasium.Env):
    """One Go2 on one course.

    Observation (265,) float32, see :mod:`go2_sevpo.envs.go2.observations`; action (12,) float32 in
    [-1, 1], joint target offsets in units of 1.2 rad. ``info["cost"]`` in {0, 1} as in
    Safety-Gymnasium; ``info["success"]``, ``info["fall"]``. Every reset builds the course with the
    next seed (or the seed given), so episodes never repeat by accident.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(
        self,
        course: str = "simple",
        difficulty: float = 1.0,
        randomization: bool = True,
        physics_dt: float = 0.005,
        render_mode: Optional[str] = None,
        version: int = 1,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is '{render_mode}', expected None or 'rgb_array'")
        self.render_mode = render_mode
        self._make = lambda seed: Go2Parkour(
            ParkourConfig(
                version=version,
                num_envs=1,
                courses=(course,),
                difficulty=difficulty,
                variants=1,
                course_seed=GYMNASIUM.number(seed),
                seed=GYMNASIUM.number(seed),
                threads=1,
                physics_dt=physics_dt,
                randomization=Randomization.of(version) if randomization else Randomization.off(),
            )
        )
        self._env = self._make(0)
        # Wider than the clips: noise is added after them.
        spec = self._env.spec
        bounds = np.concatenate(
            [np.full(f.size, max(f.clip, 1.0) * 1.5 + f.noise * f.scale) for f in spec.fields]
        )
        bounds = np.maximum(bounds, 12.0).astype(np.float32)
        self.observation_space = gymnasium.spaces.Box(-bounds, bounds, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(
            -1.0, 1.0, (self._env.num_actions,), dtype=np.float32
        )

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[np.ndarray, Dict[str, Any]]:
        """See :meth:`gymnasium.Env.reset`."""
        super().reset(seed=seed)
        number = int(self.np_random.integers(2**30)) if seed is None else seed
        # Another course is another environment: its one variant is the course of this number.
        self._env.close()
        self._env = self._make(number)
        return self._env.reset(GYMNASIUM.number(number))[0].numpy(), {"course_seed": number}

    def step(self, action: np.ndarray) -> Tuple[np.ndarray, float, bool, bool, Dict[str, Any]]:
        """See :meth:`gymnasium.Env.step`."""
        tensor = torch.as_tensor(np.asarray(action, dtype=np.float32)).reshape(1, -1)
        obs, reward, cost, terminated, truncated, info = self._env.step(tensor)
        extra = {
            "cost": float(cost[0]),
            "success": bool(info["success"][0]),
            "fall": bool(info["fall"][0]),
        }
        return obs[0].numpy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), extra

    def render(self) -> Optional[np.ndarray]:
        """An image (360, 640, 3) uint8."""
        return self._env.sim.render(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """See :meth:`gymnasium.Env.close`."""
        self._env.close()
