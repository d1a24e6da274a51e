"""Safety-Gymnasium's nine tasks of the paper as plain gymnasium environments, and playing policies
on them.

``make("CarGoal1")`` gives an environment whose ``step`` returns five values with the cost in
``info["cost"]`` and whose episodes are 1000 steps long. Extra ``safety``; see
:mod:`go2_sevpo.envs.safety_gymnasium.compat` for what makes the package run here.
"""

from __future__ import annotations

import warnings
from typing import Any, Dict, Optional, Tuple

import gymnasium
import mujoco
import numpy as np

from go2_sevpo.envs.safety_gymnasium import compat as safety_compat
from go2_sevpo.envs.safety_gymnasium.tasks import EPISODE_STEPS, Task, find_task

VELOCITY = {
    "AntVelocity": ("safety_ant_velocity_v1", "SafetyAntVelocityEnv"),
    "HalfCheetahVelocity": ("safety_half_cheetah_velocity_v1", "SafetyHalfCheetahVelocityEnv"),
    "SwimmerVelocity": ("safety_swimmer_velocity_v1", "SafetySwimmerVelocityEnv"),
}


def _build(task: Task) -> Any:
    safety_compat.install_package()
    with safety_compat.cured(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own, about deprecated things it uses
        if task.name in VELOCITY:
            module, name = VELOCITY[task.name]
            whole = __import__(f"safety_gymnasium.tasks.safe_velocity.{module}", fromlist=[name])
            return getattr(whole, name)()
        from safety_gymnasium.builder import Builder

        safety_compat.quicken_resets()
        return Builder(task.env_id, {"agent_name": "Car"})


class SafetyEnv(gymnasium.Env):
    """One task; see the module.

    ``render`` returns an image (height, width, 3) uint8 drawn by MuJoCo.

    Raises:
        DatasetError: no such task.
        ImportError: Safety-Gymnasium is not installed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self, task: str, render_mode: Optional[str] = None, width: int = 480, height: int = 360
    ) -> None:
        self.task = find_task(task)
        self.render_mode, self._size = render_mode, (height, width)
        self._env = _build(self.task)
        n, a = self.task.num_obs, self._env.action_space
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n,), np.float32)
        self.action_space = gymnasium.spaces.Box(
            a.low.astype(np.float32), a.high.astype(np.float32), dtype=np.float32
        )
        self._steps, self._renderer = 0, None
        self._drawn: Any = None

    def reset(
        self, *, seed: Optional[int] = None, options: Any = None
    ) -> Tuple[np.ndarray, Dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        self._steps = 0
        # Navigation tasks build their world anew at every reset, with all that needs curing.
        with safety_compat.cured(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            obs, _ = self._env.reset(seed=seed)
        return np.asarray(obs, dtype=np.float32), {}

    def step(self, action: np.ndarray) -> Tuple[np.ndarray, float, bool, bool, Dict[str, Any]]:
        """One step; ``info["cost"]`` is its cost."""
        action = np.clip(
            np.asarray(action, dtype=np.float64), self.action_space.low, self.action_space.high
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            obs, reward, cost, terminated, truncated, info = self._env.step(action)
        self._steps += 1
        truncated = bool(truncated) or self._steps >= EPISODE_STEPS
        return (
            np.asarray(obs, dtype=np.float32),
            float(reward),
            bool(terminated),
            truncated,
            {**info, "cost": float(cost)},
        )

    def _physics(self) -> Tuple[Any, Any]:
        env = self._env
        return (env.task.model, env.task.data) if hasattr(env, "task") else (env.model, env.data)

    def render(self) -> np.ndarray:
        """An image of the present state."""
        model, data = self._physics()
        if self._drawn is not model:
            self.close()
            height, width = self._size
            model.vis.global_.offwidth, model.vis.global_.offheight = (
                max(width, 640),
                max(height, 480),
            )
            self._renderer, self._drawn = mujoco.Renderer(model, height, width), model
        names = [model.camera(k).name for k in range(model.ncam)]
        camera: Any = "track" if "track" in names else -1
        if "fixedfar" in names:  # the package's own are too near or too far
            camera = mujoco.MjvCamera()
            camera.distance, camera.elevation, camera.azimuth = 5.2, -48.0, 90.0
        # Goals, hazards and vases are in geom groups that MuJoCo hides by default.
        everything = mujoco.MjvOption()
        everything.geomgroup[:] = 1
        self._renderer.update_scene(data, camera, everything)
        return self._renderer.render()

    def close(self) -> None:
        """Free the graphics."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._drawn = None


def make(task: str, **options: Any) -> SafetyEnv:
    """A task by its short name, Safety-Gymnasium's or DSRL's id."""
    return SafetyEnv(task, **options)


def env_id(task: str) -> str:
    """Gymnasium's name of a task."""
    return find_task(task).registered_id
