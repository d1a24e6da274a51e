"""Safety-Gymnasium's observations, costs and moving hazards without its detours.

The package looks every body, sensor and geom up by name at every step, builds arrays with ``np.r_``
and checks observations against their space. Here names are looked up once per world, and many
objects are computed at once. What is computed is the same: physics bit by bit, readings up to
rounding of the last digit (a test compares the two).

What is replaced: ``obs`` and the lidar of tasks, sensors of the agent, positions and contact costs
of objects, the motion of gremlins, and the loop over physics steps where nothing is moved by hand.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Optional, Tuple

import mujoco
import numpy as np

Keep = Callable[[Any], Any]


def per_model(make: Callable[[Any, mujoco.MjModel], Any]) -> Keep:
    """What ``make`` finds for an object in a model; found anew with the next model.

    Objects have an ``engine``; every reset of a navigation task makes a new model.
    """
    name = f"_quick_{make.__name__}"

    @functools.wraps(make)
    def found(thing: Any) -> Any:
        model = thing.engine.model
        known = thing.__dict__.get(name)
        if known is None or known[0] is not model:
            known = thing.__dict__[name] = (model, make(thing, model))
        return known[1]

    return found


@per_model
def body_ids(thing: Any, model: mujoco.MjModel) -> np.ndarray:
    """Bodies (n,) of an object with ``num`` copies, or of a single one."""
    name = thing.name
    if name == "gremlins":
        names = [f"gremlin{i}obj" for i in range(thing.num)]
    elif hasattr(thing, "num"):
        names = [f"{name[:-1]}{i}" for i in range(thing.num)]
    else:
        names = [name]
    return np.array([model.body(n).id for n in names], dtype=np.int64)


@per_model
def mocap_ids(thing: Any, model: mujoco.MjModel) -> np.ndarray:
    """Rows (n,) of the gremlins in ``mocap_pos``."""
    bodies = [model.body(f"gremlin{i}mocap").id for i in range(thing.num)]
    return np.asarray(model.body_mocapid[bodies])


@per_model
def kinds_of_geoms(thing: Any, model: mujoco.MjModel) -> Tuple[np.ndarray, np.ndarray, List[str]]:
    """Whether a geom is one of the object's, and whether the agent's, (G,) each; their names."""
    names = [model.geom(g).name for g in range(model.ngeom)]
    own = np.array([n.startswith(thing.name[:-1]) for n in names])
    agent = np.array([n in thing.agent.body_info.geom_names for n in names])
    return own, agent, names


@per_model
def sensor_places(agent: Any, model: mujoco.MjModel) -> Dict[str, slice]:
    """Where a sensor's numbers are."""
    places: Dict[str, slice] = {}
    for k in range(model.nsensor):
        first = int(model.sensor_adr[k])
        places[model.sensor(k).name] = slice(first, first + int(model.sensor_dim[k]))
    return places


@per_model
def agent_body(agent: Any, model: mujoco.MjModel) -> int:
    """The agent's body."""
    return int(model.body("agent").id)


@per_model
def velocity_places(thing: Any, model: mujoco.MjModel) -> np.ndarray:
    """Where the linear velocities of free bodies are in ``qvel``, (n, 3)."""
    first = [int(model.jnt_dofadr[model.body_jntadr[body]]) for body in body_ids(thing)]
    return np.array(first)[:, None] + np.arange(3)


def agent_pos(agent: Any) -> np.ndarray:
    """Position (3,) of the agent."""
    return np.array(agent.engine.data.xpos[agent_body(agent)])


def agent_mat(agent: Any) -> np.ndarray:
    """Rotation (3, 3) of the agent."""
    return np.array(agent.engine.data.xmat[agent_body(agent)]).reshape(3, 3)


def positions(thing: Any) -> np.ndarray:
    """Positions (n, 3) of an object's copies."""
    return np.asarray(thing.engine.data.xpos[body_ids(thing)])


def position(thing: Any) -> np.ndarray:
    """Position (3,) of an object of which there is one."""
    return np.array(thing.engine.data.xpos[body_ids(thing)[0]])


def pseudo_lidar(
    points: np.ndarray, origin: np.ndarray, mat: np.ndarray, bins: int, reach: float
) -> np.ndarray:
    """Nearness (bins,) of the nearest point per direction, 1 - distance / reach, at least 0.

    Every point is seen in its own bin and, by its place in it, in the two beside it.

    Args:
        points: (n, 2) in the world.
        origin: (3,) where the lidar is.
        mat: (3, 3) its rotation.
        bins: evenly around, counter-clockwise from the body's x.
        reach: m.
    """
    away = np.empty((len(points), 3))
    away[:, :2] = points - origin[:2]
    away[:, 2] = -origin[2]  # points lie on the ground
    ego = away @ mat
    size = 2.0 * np.pi / bins
    place = np.arctan2(ego[:, 1], ego[:, 0]) % (2.0 * np.pi) / size
    number = place.astype(np.int64)
    share = (place * size - size * number) / size
    near = np.maximum(reach - np.hypot(ego[:, 0], ego[:, 1]), 0.0) / reach
    found = np.zeros(bins)
    # An angle just below a full turn may round to the number of bins.
    for k, s, a in zip(number.tolist(), near.tolist(), share.tolist()):
        k, after, before = k % bins, (k + 1) % bins, (k - 1) % bins
        if s > found[k]:
            found[k] = s
        if a * s > found[after]:
            found[after] = a * s
        if (1.0 - a) * s > found[before]:
            found[before] = (1.0 - a) * s
    return found


def contacts(thing: Any, skip: Optional[str] = None) -> int:
    """Contacts between the object's geoms, but the one called ``skip``, and the agent's."""
    data = thing.engine.data
    if not data.ncon:
        return 0
    own, agent, names = kinds_of_geoms(thing)
    pairs = data.contact.geom  # (C, 2)
    hit = own[pairs].any(1) & agent[pairs].any(1)
    if skip is not None and hit.any():
        hit &= ~(pairs == names.index(skip)).any(1)
    return int(hit.sum())


def _lidar(task: Any, things: Any) -> np.ndarray:
    """Of a task, at positions (n, 3), (3,), or a list of them."""
    conf, agent = task.lidar_conf, task.agent
    points = np.array(things, ndmin=2)[:, :2]
    return pseudo_lidar(points, agent.pos, agent.mat, conf.num_bins, conf.max_dist)


def _observation(task: Any) -> np.ndarray:
    """A navigation task's whole observation (S,), in the order of its space."""
    mujoco.mj_forward(task.model, task.data)
    agent = task.agent
    seen: Dict[str, np.ndarray] = agent.obs_sensor()
    where, mat = agent.pos, agent.mat
    conf = task.lidar_conf
    for obstacle in task._obstacles:
        if obstacle.is_lidar_observed:
            points = np.array(obstacle.pos, ndmin=2)[:, :2]
            lidar = pseudo_lidar(points, where, mat, conf.num_bins, conf.max_dist)
            seen[f"{obstacle.name}_lidar"] = lidar
    if hasattr(task, "buttons") and task.buttons.timer != 0:
        seen["buttons_lidar"] = np.zeros(conf.num_bins)
    return np.concatenate([np.ravel(seen[key]) for key in task.obs_info.obs_space_dict.spaces])


def _contact_cost(key: str, weight: str) -> Callable[[Any], Dict[str, float]]:
    def cal_cost(thing: Any) -> Dict[str, float]:
        if not thing.is_constrained:
            return {}
        return {key: contacts(thing) * getattr(thing, weight)}

    return cal_cost


def _button_cost(buttons: Any) -> Dict[str, float]:
    if not buttons.is_constrained or buttons.timer != 0:
        return {}
    wrong = contacts(buttons, skip=f"button{buttons.goal_button}")
    return {"cost_buttons": wrong * buttons.cost}


def _button_pressed(task: Any) -> bool:
    buttons = task.buttons
    return contacts(buttons) > contacts(buttons, skip=f"button{buttons.goal_button}")


def _hazard_cost(hazards: Any) -> Dict[str, float]:
    if not hazards.is_constrained:
        return {}
    away = positions(hazards)[:, :2] - hazards.agent.pos[:2]
    depth = hazards.size - np.sqrt(np.square(away).sum(1))  # (n,)
    return {"cost_hazards": float(hazards.cost * depth[depth >= 0.0].sum())}


def _vase_cost(vases: Any) -> Dict[str, float]:
    if not vases.is_constrained:
        return {}
    speed = np.sqrt(np.square(vases.engine.data.qvel[velocity_places(vases)]).sum(1))  # (n,)
    moved = float(speed[speed >= vases.velocity_threshold].sum())
    return {
        "cost_vases_contact": contacts(vases) * vases.contact_cost,
        "cost_vases_velocity": moved * vases.velocity_cost,
    }


def _move(gremlins: Any) -> None:
    phase = float(gremlins.engine.data.time)
    circle = np.array([np.sin(phase), np.cos(phase), 0.0]) * gremlins.travel
    circle[2] = gremlins.size
    gremlins.engine.data.mocap_pos[mocap_ids(gremlins)] = circle


def _sensor(agent: Any, name: str) -> np.ndarray:
    return np.array(agent.engine.data.sensordata[sensor_places(agent)[name]])


def _distance(agent: Any, point: np.ndarray) -> float:
    x, y = (np.asarray(point)[:2] - agent.pos[:2]).tolist()
    return float(np.sqrt(x * x + y * y))


def _forward(original: Callable[..., Any]) -> Callable[..., Any]:
    """Physics steps in one call where no mocap is moved between them."""

    def simulation_forward(task: Any, action: np.ndarray) -> Any:
        if task._mocaps or task.debug or task.action_noise:
            return original(task, action)
        task.agent.apply_action(action, None)
        conf = task.sim_conf
        steps = task.random_generator.binomial(conf.frameskip_binom_n, conf.frameskip_binom_p)
        mujoco.mj_step(task.model, task.data, int(steps))
        mujoco.mj_forward(task.model, task.data)
        return False

    return simulation_forward


def quicken_steps() -> None:
    """Put the above into the package, once; wants its modules imported."""
    from safety_gymnasium.assets import free_geoms, geoms, mocaps
    from safety_gymnasium.bases import base_agent, base_task, underlying
    from safety_gymnasium.tasks.safe_navigation.button import button_level0

    task = base_task.BaseTask
    if task._obs_lidar_pseudo is _lidar:
        return
    agent = base_agent.BaseAgent
    agent.pos, agent.mat = property(agent_pos), property(agent_mat)
    agent.get_sensor, agent.dist_xy = _sensor, _distance
    task._obs_lidar_pseudo = _lidar
    task.obs = button_level0.ButtonLevel0.obs = _observation
    button_level0.ButtonLevel0.goal_achieved = property(_button_pressed)
    under = underlying.Underlying
    under.simulation_forward = _forward(under.simulation_forward)
    for module in (geoms, free_geoms, mocaps):
        for name in ("Buttons", "Hazards", "Pillars", "Vases", "Gremlins"):
            if hasattr(module, name):
                getattr(module, name).pos = property(positions)
        for name in ("Goal", "PushBox"):
            if hasattr(module, name):
                getattr(module, name).pos = property(position)
    geoms.Buttons.cal_cost, geoms.Hazards.cal_cost = _button_cost, _hazard_cost
    free_geoms.Vases.cal_cost = _vase_cost
    geoms.Pillars.cal_cost = _contact_cost("cost_pillars", "cost")
    mocaps.Gremlins.cal_cost = _contact_cost("cost_gremlins", "contact_cost")
    mocaps.Gremlins.move = _move
