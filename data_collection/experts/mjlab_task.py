"""Our parkour task for mjlab's own scripts: ``train go2_parkour``, ``play go2_parkour``.

mjlab finds this module through the entry point ``mjlab.tasks`` of the installed package, so nothing
has to be edited. The robot is our MJCF, the physics MuJoCo Warp; the environment is the same as
everywhere else in this project (:mod:`go2_sevpo.data_collection.experts.mjlab_worlds`). Needs
mjlab 1.6 (``pip install 'go2-sevpo[mjlab]'``, Python 3.10 or newer).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, Dict

import mujoco
import torch
from mjlab.actuator.xml_actuator import XmlActuatorCfg
from mjlab.entity import EntityArticulationInfoCfg, EntityCfg
from mjlab.envs import ManagerBasedRlEnv, ManagerBasedRlEnvCfg
from mjlab.managers.action_manager import ActionTerm, ActionTermCfg
from mjlab.managers.event_manager import EventTermCfg, requires_model_fields
from mjlab.managers.metrics_manager import MetricsTermCfg
from mjlab.managers.observation_manager import ObservationGroupCfg, ObservationTermCfg
from mjlab.managers.reward_manager import RewardTermCfg
from mjlab.managers.termination_manager import TerminationTermCfg
from mjlab.rl import RslRlModelCfg, RslRlOnPolicyRunnerCfg, RslRlPpoAlgorithmCfg
from mjlab.scene import SceneCfg
from mjlab.sim import MujocoCfg, SimulationCfg
from mjlab.tasks.registry import register_mjlab_task
from mjlab.viewer import ViewerConfig

from go2_sevpo.data_collection.experts.config import CONFIG_DIR, ExpertConfig, load_config
from go2_sevpo.data_collection.experts.legged_gym_config import ACTION_UNIT
from go2_sevpo.data_collection.experts.mjlab_worlds import MODEL_FIELDS, ROBOT, MjlabWorlds
from go2_sevpo.envs.go2.config import ParkourConfig, Randomization
from go2_sevpo.envs.go2.description import robot as r
from go2_sevpo.envs.go2.description.course import make_course
from go2_sevpo.envs.go2.description.model_files import mjcf
from go2_sevpo.envs.go2.description.scene import scene_xml
from go2_sevpo.envs.go2.rewards import RewardWeights
from go2_sevpo.envs.simulators.mujoco_warp import CONSTRAINTS_PER_WORLD, CONTACTS_PER_WORLD

TASK = "go2_parkour"
ACTION = "joint_targets"
_ONCE = ("fall", "success", "target_speed")
"""Reward settings that are no rates: two are paid once, one is a speed."""


# ---- scene ----


def robot_spec() -> mujoco.MjSpec:
    """Our MJCF without its options, which mjlab sets for the whole scene."""
    return mujoco.MjSpec.from_string(re.sub(r"<option[^>]*/>", "", mjcf(True)))


def add_course(spec: mujoco.MjSpec) -> None:
    """The boxes of a course and the pit under it; each world moves them to its own."""
    model = mujoco.MjModel.from_xml_string(scene_xml(make_course("hard", 0.0, 0)))
    for i in range(model.ngeom):
        geom = model.geom(i)
        if geom.name != "pit" and not geom.name.startswith("course_"):
            continue
        spec.worldbody.add_geom(
            name=geom.name,
            type=mujoco.mjtGeom(int(geom.type[0])),
            pos=geom.pos,
            quat=geom.quat,
            size=geom.size,
            friction=geom.friction,
            priority=int(geom.priority[0]),
            contype=int(geom.contype[0]),
            conaffinity=int(geom.conaffinity[0]),
            solref=geom.solref,
            rgba=(0.25, 0.28, 0.32, 1.0) if geom.name == "pit" else (0.7, 0.64, 0.56, 1.0),
        )


def robot_entity() -> EntityCfg:
    """The robot with the position actuators of its MJCF."""
    return EntityCfg(
        spec_fn=robot_spec,
        articulation=EntityArticulationInfoCfg(
            actuators=(XmlActuatorCfg(target_names_expr=(".*_joint",)),)
        ),
        init_state=EntityCfg.InitialStateCfg(
            pos=(0.0, 0.0, r.NOMINAL_BASE_HEIGHT), joint_pos=dict(r.DEFAULT_POSE)
        ),
    )


# ---- terms ----


@dataclass(kw_only=True)
class ParkourActionCfg(ActionTermCfg):
    """Actions are joint targets: default pose + ACTION_SCALE * clip(unit * action, -1, 1)."""

    entity_name: str = ROBOT
    parkour: ParkourConfig = field(default_factory=ParkourConfig)
    """Courses, curriculum, randomisation, reward weights; the number of worlds is mjlab's."""
    unit: float = ACTION_UNIT
    """Environment actions per unit of PPO's Gaussian."""

    def build(self, env: ManagerBasedRlEnv) -> ParkourAction:
        """See the base class."""
        return ParkourAction(self, env)


class ParkourAction(ActionTerm):
    """Drives the joints, with the randomised delay, and holds the worlds."""

    def __init__(self, cfg: ParkourActionCfg, env: ManagerBasedRlEnv) -> None:
        super().__init__(cfg, env)
        seed = env.cfg.seed if env.cfg.seed is not None else cfg.parkour.seed
        config = replace(cfg.parkour, num_envs=env.num_envs, seed=seed)
        self._unit = cfg.unit
        self._joints = self._entity.find_joints(list(r.JOINT_NAMES), preserve_order=True)[0]
        self._raw = torch.zeros(env.num_envs, self.action_dim, device=env.device)
        self.worlds = MjlabWorlds(config, env)

    @property
    def action_dim(self) -> int:
        """Twelve."""
        return len(r.JOINT_NAMES)

    @property
    def raw_action(self) -> torch.Tensor:
        """Actions (N, 12) as PPO gave them."""
        return self._raw

    def process_actions(self, actions: torch.Tensor) -> None:
        """Once per control step, before the physics."""
        self._raw[:] = actions
        self.worlds.begin(self._unit * actions)

    def apply_actions(self) -> None:
        """Before every physics step."""
        self._entity.set_joint_position_target(self.worlds.next_targets(), self._joints)


def worlds_of(env: ManagerBasedRlEnv) -> MjlabWorlds:
    """The worlds of an environment of this task."""
    return env.action_manager.get_term(ACTION).worlds


@requires_model_fields(*MODEL_FIELDS)
def begin_episodes(env: ManagerBasedRlEnv, env_ids: torch.Tensor) -> None:
    """Course, dynamics and start of worlds whose episode begins."""
    worlds_of(env).begin_episodes(env_ids)


def observation(env: ManagerBasedRlEnv) -> torch.Tensor:
    """What the robot knows, (N, 265), noise and history included."""
    return worlds_of(env).observation


def privileged(env: ManagerBasedRlEnv) -> torch.Tensor:
    """What only the critic sees, (N, 14)."""
    return worlds_of(env).privileged()


def reward_rate(env: ManagerBasedRlEnv, name: str) -> torch.Tensor:
    """One of our reward terms, weighted, per second, (N,)."""
    return worlds_of(env).result().terms[name]


def paid_once(env: ManagerBasedRlEnv, name: str) -> torch.Tensor:
    """The reward for ``fall`` or ``success``, (N,), over the step that mjlab multiplies with."""
    worlds = worlds_of(env)
    weight = getattr(worlds.config.reward, name)
    return weight * getattr(worlds.result(), name).float() / env.step_dt


def ended(env: ManagerBasedRlEnv, how: str) -> torch.Tensor:
    """Whose episode ended by ``fall``, ``success``, ``stuck`` or ``timeout``, (N,) bool."""
    return getattr(worlds_of(env).result(), how)


def cost(env: ManagerBasedRlEnv) -> torch.Tensor:
    """The step's cost, (N,), 0 or 1."""
    return worlds_of(env).result().cost


def level(env: ManagerBasedRlEnv) -> torch.Tensor:
    """Mean curriculum level of each world over the kinds of course, (N,)."""
    return worlds_of(env).levels.float().mean(1)


# ---- configurations ----


def env_cfg(config: ExpertConfig, play: bool = False) -> ManagerBasedRlEnvCfg:
    """The environment for mjlab; to ``play``: no randomisation, the hardest courses."""
    parkour = config.env
    if play:
        parkour = replace(
            parkour,
            curriculum=False,
            random_start=0.0,
            randomization=Randomization.off(),
        )
    rewards: Dict[str, Any] = {
        f.name: RewardTermCfg(func=reward_rate, weight=1.0, params={"name": f.name})
        for f in fields(RewardWeights)
        if f.name not in _ONCE
    }
    for name in ("fall", "success"):
        rewards[name] = RewardTermCfg(func=paid_once, weight=1.0, params={"name": name})
    # A time-out is bootstrapped; being stuck ends like a fall.
    ends = {
        how: TerminationTermCfg(func=ended, params={"how": how}, time_out=how == "timeout")
        for how in ("fall", "success", "stuck", "timeout")
    }
    seen = ObservationTermCfg(func=observation)
    return ManagerBasedRlEnvCfg(
        decimation=r.DECIMATION,
        episode_length_s=parkour.episode_seconds,
        scene=SceneCfg(
            num_envs=16 if play else parkour.num_envs,
            env_spacing=0.0,  # worlds do not see each other; each has its course at the origin
            entities={ROBOT: robot_entity()},
            spec_fn=add_course,
        ),
        sim=SimulationCfg(
            nconmax=CONTACTS_PER_WORLD,
            njmax=CONSTRAINTS_PER_WORLD,
            mujoco=MujocoCfg(
                timestep=r.PHYSICS_DT, integrator="implicitfast", cone="pyramidal", iterations=50
            ),
        ),
        observations={
            "actor": ObservationGroupCfg(terms={"parkour": seen}),
            "critic": ObservationGroupCfg(
                terms={"parkour": seen, "privileged": ObservationTermCfg(func=privileged)}
            ),
        },
        actions={ACTION: ParkourActionCfg(parkour=parkour)},
        events={"begin_episodes": EventTermCfg(func=begin_episodes, mode="reset")},
        rewards=rewards,
        terminations=ends,
        metrics={
            "cost": MetricsTermCfg(func=cost, reduce="sum"),
            "level": MetricsTermCfg(func=level, reduce="last"),
        },
        viewer=ViewerConfig(body_name="base", distance=2.0, elevation=-15.0),
    )


def rl_cfg(config: ExpertConfig) -> RslRlOnPolicyRunnerCfg:
    """PPO as ``go2-train-expert`` runs it, but for what mjlab's configuration has no place for.

    Those are the mirrored samples and the annealing of entropy and learning rate.
    """
    p = config.ppo
    noise = {
        "class_name": "GaussianDistribution",
        "init_std": p.initial_std,
        "std_range": (0.05, 2.0),
        "std_type": "log",
    }
    return RslRlOnPolicyRunnerCfg(
        actor=RslRlModelCfg(hidden_dims=p.hidden, activation="elu", distribution_cfg=noise),
        critic=RslRlModelCfg(hidden_dims=p.hidden, activation="elu"),
        algorithm=RslRlPpoAlgorithmCfg(
            num_learning_epochs=p.epochs,
            num_mini_batches=p.minibatches,
            gamma=p.gamma,
            lam=p.gae_lambda,
            clip_param=p.clip,
            desired_kl=p.desired_kl,
            entropy_coef=p.entropy[0],
        ),
        experiment_name=TASK,
        logger="tensorboard",
        upload_model=False,
        num_steps_per_env=p.steps_per_iteration,
        max_iterations=p.iterations,
        clip_actions=1.0 / ACTION_UNIT,  # where the environment's actions reach 1
    )


def register(name: str = TASK) -> None:
    """Make the task known to mjlab."""
    config = load_config(CONFIG_DIR / "expert.yaml")
    register_mjlab_task(name, env_cfg(config), env_cfg(config, play=True), rl_cfg(config))


register()
