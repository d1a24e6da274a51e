"""Configurations of the parkour task as legged_gym has them: nested classes.

They are generated from our dataclasses and read back into them: what somebody changes in the nested
form takes effect or is refused (:mod:`go2_sevpo.data_collection.experts.legged_gym_entries`).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Dict, Optional, Protocol, Tuple

from go2_sevpo.data_collection.experts.config import (
    CONFIG_DIR,
    ExpertConfig,
    PpoConfig,
    load_config,
)
from go2_sevpo.data_collection.experts.legged_gym_entries import check_entries
from go2_sevpo.envs.go2.config import ParkourConfig
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.observations import FRAME_FIELDS, MAP_FIELDS, observation_spec

ACTION_UNIT = 0.25
"""Environment actions per unit of PPO's Gaussian: 0.3 rad (legged_gym's ``action_scale``)."""
PRIVILEGED = 14
"""Numbers that only the critic sees."""
_ONCE = ("fall", "success", "target_speed")
"""Reward settings that are not weights per second."""


class BaseConfig:
    """Nested classes become instances, as in legged_gym.

    So ``cfg.env.num_envs = 4`` changes one configuration only.
    """

    def __init__(self) -> None:
        _instantiate(self)


class NestedConfig(Protocol):
    """What is read of a nested configuration.

    Attributes:
        env, terrain, control, domain_rand, noise, rewards, sim: instances of the nested classes;
            their attributes are made while running, hence ``Any``.
    """

    env: Any
    terrain: Any
    control: Any
    domain_rand: Any
    noise: Any
    rewards: Any
    sim: Any


def _instantiate(obj: object) -> None:
    for name in dir(obj):
        value = getattr(obj, name)
        if not name.startswith("__") and isinstance(value, type):
            child = value()
            _instantiate(child)
            setattr(obj, name, child)


class _Section(Dict[str, Any]):
    """A part of a configuration that becomes a nested class."""


S = _Section


def _nested(name: str, values: Dict[str, Any], bases: Tuple[type, ...] = ()) -> type:
    """A class with ``values`` as attributes; those that are a :class:`_Section` become classes."""
    attributes = {k: _nested(k, v) if isinstance(v, _Section) else v for k, v in values.items()}
    return type(name, bases, attributes)


def make_configs(config: Optional[ExpertConfig] = None) -> Tuple[type, type]:
    """The environment's and the training's configuration classes, in legged_gym's style.

    They are made from ``config``; from the preset ``expert_v1`` if not given.
    """
    config = config or load_config(CONFIG_DIR / "expert_v1.yaml")
    task = {**_task(config.env), **_robot(), **_learning(config.env), **_simulation()}
    return (
        _nested("Go2ParkourCfg", task, (BaseConfig,)),
        _nested("Go2ParkourCfgPPO", _training(config.ppo), (BaseConfig,)),
    )


def _task(env: ParkourConfig) -> Dict[str, _Section]:
    """Sizes, courses and curriculum."""
    num_obs = observation_spec().size
    return {
        "env": S(
            num_envs=4096,
            num_observations=num_obs,
            num_privileged_obs=num_obs + PRIVILEGED,
            num_actions=len(r.JOINT_NAMES),
            send_timeouts=True,
            episode_length_s=env.episode_seconds,
        ),
        "terrain": S(
            mesh_type="trimesh",
            courses=list(env.courses),
            shares=list(env.shares),
            curriculum=env.curriculum,
            num_rows=env.levels,  # legged_gym's rows are levels, its columns are variants
            num_cols=env.variants,
            max_difficulty=env.max_level_difficulty,
            difficulty=env.difficulty,
            course_seed=env.course_seed,
            random_start=env.random_start,
            stuck_seconds=env.stuck_seconds,
            measure_heights=True,
        ),
        "commands": S(num_commands=4),
    }


def _robot() -> Dict[str, _Section]:
    """Start pose, motors and model."""
    start = [0.0, 0.0, r.NOMINAL_BASE_HEIGHT]  # m
    upright = [0.0, 0.0, 0.0, 1.0]  # quaternion x, y, z, w
    # PPO's unit -> the environment's action -> radians.
    radians = r.ACTION_SCALE * ACTION_UNIT
    return {
        "init_state": S(pos=start, rot=upright, default_joint_angles=dict(r.DEFAULT_POSE)),
        "control": S(
            control_type="P",
            stiffness={"joint": r.KP},
            damping={"joint": r.KD},
            action_scale=radians,
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
    }


def _learning(env: ParkourConfig) -> Dict[str, _Section]:
    """Randomisation, rewards, and the scales and noise of observations."""
    z, w = env.randomization, env.reward
    fields = FRAME_FIELDS + MAP_FIELDS
    weights = {k: v for k, v in asdict(w).items() if k not in _ONCE}
    scales = {f.name: f.scale for f in fields}
    noise = {f.name: f.noise for f in fields}
    # PPO's actions are clipped where the environment's reach 1.
    bounds = {"clip_observations": 100.0, "clip_actions": 1.0 / ACTION_UNIT}
    return {
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
        "normalization": S(obs_scales=S(**scales), **bounds),
        "noise": S(add_noise=z.sensor_noise, noise_scales=S(**noise)),
    }


def _simulation() -> Dict[str, _Section]:
    """Camera and physics."""
    gravity = [0.0, 0.0, -9.81]
    physics = S(num_threads=4)
    return {
        # The world that the camera follows, and where it stands and looks, m from that robot.
        "viewer": S(ref_env=0, pos=[-1.6, 2.2, 1.0], lookat=[0.0, 0.0, 0.0]),
        "sim": S(dt=r.PHYSICS_DT, substeps=1, gravity=gravity, up_axis=1, physx=physics),
    }


def _training(ppo: PpoConfig) -> Dict[str, Any]:
    """PPO as rsl_rl v1.0.2 reads it; what is annealed starts at its first value."""
    # Nothing to go on from; legged_gym's command line fills these.
    unresumed = {"resume": False, "load_run": -1, "checkpoint": -1}
    return {
        "seed": 1,
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
            **unresumed,
        ),
    }


def parkour_config(
    cfg: NestedConfig, seed: int, simulator: str, device: Optional[str]
) -> ParkourConfig:
    """Our configuration from a nested one, with whatever was changed in it.

    Raises:
        ValueError: an entry that was changed, or added, and that does nothing.
    """
    check_entries(cfg, make_configs()[0]())
    base = load_config(CONFIG_DIR / "expert_v1.yaml").env
    terrain, random = cfg.terrain, cfg.domain_rand
    randomization = replace(
        base.randomization,
        friction=random.randomize_friction,
        friction_factor=tuple(random.friction_range),
        payload=random.randomize_base_mass,
        payload_kg=tuple(random.added_mass_range),
        pushes=random.push_robots,
        push_interval=random.push_interval_s,
        push_speed=random.max_push_vel_xy,
        motor_strength=random.randomize_motor_strength,
        motor_factor=tuple(random.motor_strength_range),
        delay=random.randomize_delay,
        delay_s=tuple(random.delay_range_s),
        sensor_noise=cfg.noise.add_noise,
    )
    weights = {k: getattr(cfg.rewards.scales, k) for k in asdict(base.reward) if k not in _ONCE}
    reward = replace(base.reward, **weights, **{k: getattr(cfg.rewards, k) for k in _ONCE})
    return replace(
        base,
        num_envs=cfg.env.num_envs,
        episode_seconds=cfg.env.episode_length_s,
        courses=tuple(terrain.courses),
        shares=tuple(terrain.shares),
        curriculum=terrain.curriculum,
        levels=terrain.num_rows,
        variants=terrain.num_cols,
        max_level_difficulty=terrain.max_difficulty,
        difficulty=terrain.difficulty,
        course_seed=terrain.course_seed,
        random_start=terrain.random_start,
        stuck_seconds=terrain.stuck_seconds,
        seed=seed,
        threads=cfg.sim.physx.num_threads,
        physics_dt=cfg.sim.dt,
        simulator=simulator,
        device=device,
        randomization=randomization,
        reward=reward,
    )
