"""Our parkour task for legged_gym's own scripts, on Isaac Gym.

In a checkout of legged_gym (with rsl_rl v1.0.2), one line at the end of
``legged_gym/envs/__init__.py`` makes it known::

    from data_collection.legged_gym_task import register; register(task_registry)

and ``python legged_gym/scripts/train.py --task=go2_parkour`` trains it. The environment is the same
as everywhere else in this project; the nested configuration classes are generated from our
dataclasses, and what is changed in them takes effect.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Dict, List, Optional, Tuple

import torch

from go2_sevpo.data_collection.experts.config import CONFIG_DIR, ExpertConfig, load_config
from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.geometry import to_body
from go2_sevpo.envs.go2.observations import FRAME_FIELDS, MAP_FIELDS, observation_spec
from go2_sevpo.envs.go2.parkour import Go2Parkour

ACTION_UNIT = 0.25
"""Environment actions per unit of PPO's Gaussian: 0.3 rad (legged_gym's ``action_scale``)."""
PRIVILEGED = 14
_ONCE = ("fall", "success", "target_speed")
"""Reward settings that are not weights per second."""


class BaseConfig:
    """Nested classes become instances, as in legged_gym, so that ``cfg.env.num_envs = 4`` changes
    one configuration only.
    """

    def __init__(self) -> None:
        _instantiate(self)


def _instantiate(obj: Any) -> None:
    for name in dir(obj):
        value = getattr(obj, name)
        if not name.startswith("__") and isinstance(value, type):
            child = value()
            _instantiate(child)
            setattr(obj, name, child)


def _nested(name: str, values: Dict[str, Any], bases: Tuple[type, ...] = ()) -> type:
    """A class with ``values`` as attributes, dictionaries marked by :class:`dict` subclass
    ``_Section`` as nested classes.
    """
    attributes = {k: _nested(k, v) if isinstance(v, _Section) else v for k, v in values.items()}
    return type(name, bases, attributes)


class _Section(Dict[str, Any]):
    """A part of a configuration that becomes a nested class."""


def make_configs(config: Optional[ExpertConfig] = None) -> Tuple[type, type]:
    """The environment's and the training's configuration classes, in legged_gym's style, from ours
    (the expert's preset).
    """
    config = config or load_config(CONFIG_DIR / "expert.yaml")
    env, z, w, ppo = config.env, config.env.randomization, config.env.reward, config.ppo
    S = _Section
    weights = {k: v for k, v in asdict(w).items() if k not in _ONCE}
    scales = {f.name: f.scale for f in FRAME_FIELDS + MAP_FIELDS}
    noise = {f.name: f.noise for f in FRAME_FIELDS + MAP_FIELDS}
    task = _nested(
        "Go2ParkourCfg",
        {
            "env": S(
                num_envs=4096,
                num_observations=observation_spec().size,
                num_privileged_obs=observation_spec().size + PRIVILEGED,
                num_actions=len(r.JOINT_NAMES),
                send_timeouts=True,
                episode_length_s=env.episode_seconds,
            ),
            "terrain": S(
                mesh_type="trimesh",
                courses=list(env.courses),
                shares=list(env.shares),
                curriculum=env.curriculum,
                num_rows=env.levels,
                num_cols=env.variants,
                max_difficulty=env.max_level_difficulty,
                difficulty=env.difficulty,
                course_seed=env.course_seed,
                random_start=env.random_start,
                stuck_seconds=env.stuck_seconds,
                measure_heights=True,
            ),
            "commands": S(num_commands=4),
            "init_state": S(
                pos=[0.0, 0.0, r.NOMINAL_BASE_HEIGHT],
                rot=[0.0, 0.0, 0.0, 1.0],
                default_joint_angles=dict(r.DEFAULT_POSE),
            ),
            "control": S(
                control_type="P",
                stiffness={"joint": r.KP},
                damping={"joint": r.KD},
                action_scale=r.ACTION_SCALE * ACTION_UNIT,
                decimation=r.DECIMATION,
            ),
            "asset": S(
                file="assets/go2/go2.urdf",
                name="go2",
                foot_name="foot",
                penalize_contacts_on=["thigh", "calf"],
                terminate_after_contacts_on=["base"],
                self_collisions=1,
            ),
            "domain_rand": S(
                randomize_friction=z.friction,
                friction_range=list(z.friction_factor),
                randomize_base_mass=z.payload,
                added_mass_range=list(z.payload_kg),
                push_robots=z.pushes,
                push_interval_s=z.push_interval,
                max_push_vel_xy=z.push_speed,
                randomize_motor_strength=z.motor_strength,
                motor_strength_range=list(z.motor_factor),
                randomize_delay=z.delay,
                delay_range_s=list(z.delay_s),
            ),
            "rewards": S(
                scales=S(**weights),
                fall=w.fall,
                success=w.success,
                target_speed=w.target_speed,
                only_positive_rewards=False,
            ),
            "normalization": S(
                obs_scales=S(**scales), clip_observations=100.0, clip_actions=1.0 / ACTION_UNIT
            ),
            "noise": S(add_noise=z.sensor_noise, noise_scales=S(**noise)),
            "viewer": S(ref_env=0, pos=[-2, -3, 2], lookat=[2.0, 0.0, 0.0]),
            "sim": S(
                dt=r.PHYSICS_DT,
                substeps=1,
                gravity=[0.0, 0.0, -9.81],
                up_axis=1,
                physx=S(num_threads=4),
            ),
        },
        (BaseConfig,),
    )
    train = _nested(
        "Go2ParkourCfgPPO",
        {
            "seed": 1,
            "runner_class_name": "OnPolicyRunner",
            "policy": S(
                init_noise_std=ppo.initial_std,
                actor_hidden_dims=list(ppo.hidden),
                critic_hidden_dims=list(ppo.hidden),
                activation="elu",
            ),
            "algorithm": S(
                value_loss_coef=1.0,
                use_clipped_value_loss=True,
                clip_param=ppo.clip,
                entropy_coef=ppo.entropy[0],
                num_learning_epochs=ppo.epochs,
                num_mini_batches=ppo.minibatches,
                learning_rate=1e-3,
                schedule="adaptive",
                gamma=ppo.gamma,
                lam=ppo.gae_lambda,
                desired_kl=ppo.desired_kl,
                max_grad_norm=1.0,
            ),
            "runner": S(
                policy_class_name="ActorCritic",
                algorithm_class_name="PPO",
                num_steps_per_env=ppo.steps_per_iteration,
                max_iterations=ppo.iterations,
                save_interval=50,
                experiment_name="go2_parkour",
                run_name="",
                resume=False,
                load_run=-1,
                checkpoint=-1,
                resume_path=None,
            ),
        },
        (BaseConfig,),
    )
    return task, train


def parkour_config(cfg: Any, seed: int, simulator: str, device: Optional[str]) -> ParkourConfig:
    """Our configuration from a nested one, with whatever was changed in it."""
    base = load_config(CONFIG_DIR / "expert.yaml").env
    t, d = cfg.terrain, cfg.domain_rand
    z = replace(
        base.randomization,
        friction=d.randomize_friction,
        friction_factor=tuple(d.friction_range),
        payload=d.randomize_base_mass,
        payload_kg=tuple(d.added_mass_range),
        pushes=d.push_robots,
        push_interval=d.push_interval_s,
        push_speed=d.max_push_vel_xy,
        motor_strength=d.randomize_motor_strength,
        motor_factor=tuple(d.motor_strength_range),
        delay=d.randomize_delay,
        delay_s=tuple(d.delay_range_s),
        sensor_noise=cfg.noise.add_noise,
    )
    scales = {k: getattr(cfg.rewards.scales, k) for k in asdict(base.reward) if k not in _ONCE}
    reward = replace(base.reward, **scales, **{k: getattr(cfg.rewards, k) for k in _ONCE})
    return replace(
        base,
        num_envs=cfg.env.num_envs,
        episode_seconds=cfg.env.episode_length_s,
        courses=tuple(t.courses),
        shares=tuple(t.shares),
        curriculum=t.curriculum,
        levels=t.num_rows,
        variants=t.num_cols,
        max_level_difficulty=t.max_difficulty,
        difficulty=t.difficulty,
        course_seed=t.course_seed,
        random_start=t.random_start,
        stuck_seconds=t.stuck_seconds,
        seed=seed,
        simulator=simulator,
        device=device,
        randomization=z,
        reward=reward,
    )


class Go2ParkourTask:
    """The environment as legged_gym and rsl_rl v1.0.2 see it.

    ``step(actions (N, 12)) -> (obs, privileged_obs, rewards, dones, extras)``; ``privileged_obs``
    (N, 279) is all the critic sees. ``extras`` has ``time_outs`` (N,) and ``episode`` (mean reward
    terms of the episodes that ended, per second).
    """

    simulator = "isaacgym"

    def __init__(
        self,
        cfg: Any,
        sim_params: Any = None,
        physics_engine: Any = None,
        sim_device: Optional[str] = None,
        headless: bool = True,
    ) -> None:
        self.cfg, self.headless = cfg, headless
        config = parkour_config(
            cfg, max(int(getattr(cfg, "seed", 0)), 0), self.simulator, sim_device
        )
        self.env = Go2Parkour(config, auto_reset=True)
        self.num_envs, self.num_actions, self.device = (
            self.env.num_envs,
            self.env.num_actions,
            self.env.device,
        )
        self.num_obs = self.env.num_obs
        self.num_privileged_obs = self.num_obs + PRIVILEGED
        self.max_episode_length, self.dt = self.env.max_episode_length, r.CONTROL_DT
        self.max_episode_length_s = config.episode_seconds
        self.feet_indices = torch.arange(len(r.LEGS), device=self.device)
        self.dof_names: List[str] = list(r.JOINT_NAMES)
        self.default_dof_pos = self.env.default[None]
        self.extras: Dict[str, Any] = {}
        self._sums: Dict[str, torch.Tensor] = {}
        self.rew_buf = torch.zeros(self.num_envs, device=self.device)
        self.reset_buf = torch.ones(self.num_envs, dtype=torch.long, device=self.device)
        self.reset()

    # rsl_rl spreads the first episodes by writing random lengths into this.
    @property
    def episode_length_buf(self) -> torch.Tensor:
        """Steps of the present episode, (N,)."""
        return self.env.episode_length

    @episode_length_buf.setter
    def episode_length_buf(self, value: torch.Tensor) -> None:
        self.env.episode_length = value.clone()
        self.env.best_step = value.clone()

    @property
    def obs_buf(self) -> torch.Tensor:
        """Observations (N, 265)."""
        return self.env.observation

    @property
    def privileged_obs_buf(self) -> torch.Tensor:
        """What the critic sees, (N, 279)."""
        return torch.cat([self.env.observation, self.env.privileged()], dim=1)

    def get_observations(self) -> torch.Tensor:
        """Observations (N, 265)."""
        return self.obs_buf

    def get_privileged_observations(self) -> torch.Tensor:
        """What the critic sees, (N, 279)."""
        return self.privileged_obs_buf

    def reset(self) -> Tuple[torch.Tensor, torch.Tensor]:
        """Start every world anew."""
        self.env.reset()
        return self.obs_buf, self.privileged_obs_buf

    def step(
        self, actions: torch.Tensor
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Dict[str, Any]]:
        """See the class; actions are in units of 0.3 rad."""
        _, reward, cost, terminated, truncated, info = self.env.step(
            actions.to(self.device) * ACTION_UNIT
        )
        done = terminated | truncated
        self.rew_buf, self.reset_buf = reward, done.long()
        self._actions = actions
        terms = {**info["reward_terms"], "cost": cost / r.CONTROL_DT}
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value * r.CONTROL_DT
        episode: Dict[str, Any] = {}
        if bool(done.any()):
            for name, total in self._sums.items():
                episode[f"rew_{name}"] = total[done].mean() / self.max_episode_length_s
            self._sums = {
                k: torch.where(done, torch.zeros_like(v), v) for k, v in self._sums.items()
            }
            episode["success"] = info["success"][done].float().mean()
            episode["terrain_level"] = self.env.levels.float().mean()
        self.extras = {"time_outs": (truncated & ~info["stuck"]).float(), "episode": episode}
        return self.obs_buf, self.privileged_obs_buf, self.rew_buf, self.reset_buf, self.extras

    # What legged_gym's play.py looks at.
    @property
    def dof_pos(self) -> torch.Tensor:
        """Joint positions (N, 12), rad."""
        return self.env._state.joint_position

    @property
    def dof_vel(self) -> torch.Tensor:
        """Joint velocities (N, 12), rad/s."""
        return self.env._state.joint_velocity

    @property
    def torques(self) -> torch.Tensor:
        """Joint torques (N, 12), N m."""
        return self.env._state.joint_torque

    @property
    def base_lin_vel(self) -> torch.Tensor:
        """Base velocity (N, 3), m/s, body frame."""
        return to_body(self.env._sensed.rotation, self.env._state.base_linear_velocity)

    @property
    def base_ang_vel(self) -> torch.Tensor:
        """Base angular velocity (N, 3), rad/s, body frame."""
        return to_body(self.env._sensed.rotation, self.env._state.base_angular_velocity)

    @property
    def commands(self) -> torch.Tensor:
        """There are none: the waypoints lead; the target speed stands in the first column, (N, 4)."""
        found = torch.zeros(self.num_envs, 4, device=self.device)
        found[:, 0] = self.env.config.reward.target_speed
        return found

    @property
    def contact_forces(self) -> torch.Tensor:
        """Normal force of each foot as a vertical vector, (N, 4, 3), N."""
        found = torch.zeros(self.num_envs, len(r.LEGS), 3, device=self.device)
        found[..., 2] = self.env._state.foot_force
        return found

    def set_camera(self, position: Any, lookat: Any) -> None:
        """The back end is headless: nothing to move."""


def register(
    registry: Any, name: str = "go2_parkour", config: Optional[ExpertConfig] = None
) -> None:
    """Make the task known to legged_gym's ``task_registry``."""
    task, train = make_configs(config)
    registry.register(name, Go2ParkourTask, task(), train())
