"""Safety-Gymnasium's nine tasks of the paper as plain gymnasium environments.

``make("CarGoal1")`` gives an environment whose ``step`` returns five values with the cost in
``info["cost"]`` and whose episodes are 1000 steps long. Extra ``safety``; see
:mod:`go2_sevpo.envs.safety_gymnasium.compat` for what makes the package run here.
"""

from __future__ import annotations

import warnings
from typing import Any, Dict, Optional, Tuple, Union

import gymnasium
import mujoco
import numpy as np

from go2_sevpo.envs.safety_gymnasium import compat as safety_compat
from go2_sevpo.envs.safety_gymnasium.quick import quicken_steps
from go2_sevpo.envs.safety_gymnasium.tasks import EPISODE_STEPS, Task, find_task

VELOCITY = {
    "AntVelocity": ("safety_ant_velocity_v1", "SafetyAntVelocityEnv"),
    "HalfCheetahVelocity": ("safety_half_cheetah_velocity_v1", "SafetyHalfCheetahVelocityEnv"),
    "SwimmerVelocity": ("safety_swimmer_velocity_v1", "SafetySwimmerVelocityEnv"),
}


def _build(task: Task) -> Any:
    """The package's own environment; it has no types."""
    safety_compat.install_package()
    with safety_compat.cured(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own, about deprecated things it uses
        if task.name in VELOCITY:
            module, name = VELOCITY[task.name]
            whole = __import__(f"safety_gymnasium.tasks.safe_velocity.{module}", fromlist=[name])
            return getattr(whole, name)()
        from safety_gymnasium.builder import Builder

        safety_compat.quicken_resets()
        quicken_steps()
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
        n, actions = self.task.num_obs, self._env.action_space
        self._low, self._high = (x.astype(np.float32) for x in (actions.low, actions.high))
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (n,), np.float32)
        self.action_space = gymnasium.spaces.Box(self._low, self._high, dtype=np.float32)
        self._steps = 0
        self._renderer: Optional[mujoco.Renderer] = None
        self._drawn: Optional[mujoco.MjModel] = None  # what the renderer was made for

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[np.ndarray, Dict[str, Any]]:
        """Start an episode; ``options`` are ignored."""
        super().reset(seed=seed)
        self._steps = 0
        # Navigation tasks build their world anew at every reset, with all that needs curing.
        with safety_compat.cured(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            obs, _ = self._env.reset(seed=seed)
            if self.task.name in VELOCITY:
                # Ant's starting quaternion is drawn with noise; MuJoCo 2 normalised it in place.
                mujoco.mj_normalizeQuat(self._env.model, self._env.data.qpos)
                obs = self._env._get_obs()
        return np.asarray(obs, dtype=np.float32), {}

    def step(self, action: np.ndarray) -> Tuple[np.ndarray, float, bool, bool, Dict[str, Any]]:
        """One step; ``info["cost"]`` is its cost."""
        action = np.clip(np.asarray(action, dtype=np.float64), self._low, self._high)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            obs, reward, cost, terminated, truncated, info = self._env.step(action)
        self._steps += 1
        truncated = bool(truncated) or self._steps >= EPISODE_STEPS
        observation, info = np.asarray(obs, dtype=np.float32), {**info, "cost": float(cost)}
        return observation, float(reward), bool(terminated), truncated, info

    def _physics(self) -> Tuple[mujoco.MjModel, mujoco.MjData]:
        """Model and data: navigation tasks keep them in a task, velocity tasks themselves."""
        env = self._env
        return (env.task.model, env.task.data) if hasattr(env, "task") else (env.model, env.data)

    def render(self) -> np.ndarray:
        """An image of the present state."""
        model, data = self._physics()
        if self._renderer is None or self._drawn is not model:
            self.close()
            height, width = self._size
            model.vis.global_.offwidth = max(width, 640)
            model.vis.global_.offheight = max(height, 480)
            self._renderer, self._drawn = mujoco.Renderer(model, height, width), model
        names = [model.camera(k).name for k in range(model.ncam)]
        camera: Union[str, int, mujoco.MjvCamera] = "track" if "track" in names else -1
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


def make(
    task: str, render_mode: Optional[str] = None, width: int = 480, height: int = 360
) -> SafetyEnv:
    """A task by its short name, Safety-Gymnasium's or DSRL's id; see :class:`SafetyEnv`."""
    return SafetyEnv(task, render_mode, width, height)


def env_id(task: str) -> str:
    """Gymnasium's name of a task."""
    return find_task(task).registered_id
