"""The one simulation of this process, lent to one simulator after another.

A second simulation in one process is reported to end it ("Foundation object exists already"), and
nothing can be added to one that runs. So whoever needs several environments one after the other
announces all of them first (:func:`announce`): the first one makes a simulation that holds every
course and as many worlds as the largest needs, and each gets it back reset.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch

from go2_sevpo.envs.go2.description.course import Course
from go2_sevpo.envs.simulators.isaacgym.scene import Robots, add_courses, add_robots, cell_origins
from go2_sevpo.envs.simulators.isaacgym.session import Session, load_isaacgym, open_session


@dataclass
class Request:
    """What a simulator needs: worlds, their payloads (N,), kg, and the courses."""

    num_envs: int
    courses: Sequence[Course]
    payload: torch.Tensor


@dataclass(frozen=True)
class Settings:
    """What all simulators of a process share: the physics step, s, and the device."""

    physics_dt: float
    device: str


def _key(course: Course) -> Tuple[Any, ...]:
    """What makes two courses the same ground."""
    return course.boxes, course.floor, course.friction


@dataclass
class Scene:
    """A prepared simulation with N worlds on C courses.

    ``root`` (N, 13), ``dof`` (N, joints, 2) and ``contact`` (N, bodies, 3) are the simulation's own
    tensors; ``force`` (N, joints) is what is handed to it; ``origins`` (C, 3), m.
    """

    session: Session
    settings: Settings
    robots: Robots
    places: Dict[Tuple[Any, ...], int]
    origins: torch.Tensor
    payload: torch.Tensor
    viewer: bool
    root: torch.Tensor
    dof: torch.Tensor
    contact: torch.Tensor
    force: torch.Tensor
    coefficients: List[Optional[float]] = field(default_factory=list)
    """Friction coefficient of each robot's shapes, as last set."""
    user: Optional[Any] = None
    """A weak reference to the simulator that has it."""

    @property
    def worlds(self) -> int:
        """Number of worlds."""
        return len(self.root)

    def courses(self, courses: Sequence[Course]) -> torch.Tensor:
        """Origins (K, 3), m, of ``courses``."""
        return self.origins[[self.places[_key(c)] for c in courses]]

    def set_friction(self, world: int, coefficient: float) -> None:
        """Give a robot's shapes a friction coefficient, where it is not theirs already."""
        if self.coefficients[world] == coefficient:
            return
        gym = self.session.gym
        place = self.robots.envs[world], self.robots.actors[world]
        shapes = gym.get_actor_rigid_shape_properties(*place)
        for shape in shapes:
            shape.friction, shape.restitution = coefficient, 0.0
        gym.set_actor_rigid_shape_properties(*place, shapes)
        self.coefficients[world] = coefficient


_announced: List[Request] = []
_scene: Optional[Scene] = None


def announce(requests: Sequence[Request]) -> None:
    """Say what simulators this process will make, one after the other, before the first."""
    _announced.extend(requests)


def forget() -> None:
    """Forget the simulation and what was announced, as a new process would (for tests)."""
    global _scene
    _scene = None
    _announced.clear()


def borrow(user: Any, request: Request, settings: Settings, threads: int, viewer: bool) -> Scene:
    """The process's simulation for ``user``, made if there is none yet.

    Raises:
        ValueError: it is in use, or lacks what is asked for.
    """
    global _scene
    if _scene is None:
        _scene = _build(request, settings, threads, viewer)
    elif _scene.user is not None and _scene.user() is not None:
        raise ValueError(
            "Isaac Gym bears one simulation per process, and another environment is using it: "
            "close that one first"
        )
    _check(_scene, request, settings, viewer)
    _scene.user = weakref.ref(user)
    return _scene


def give_back(scene: Scene, user: Any) -> None:
    """Let the next simulator have what ``user`` had."""
    if scene.user is not None and scene.user() is user:
        scene.user = None


def _check(scene: Scene, request: Request, settings: Settings, viewer: bool) -> None:
    """Whether a scene has what is asked for.

    Raises:
        ValueError: naming what it lacks.
    """
    lacks = []
    if scene.settings != settings:
        lacks.append(f"it has {scene.settings}, asked for is {settings}")
    if request.num_envs > scene.worlds:
        lacks.append(f"it has {scene.worlds} worlds, asked for are {request.num_envs}")
    absent = sum(_key(c) not in scene.places for c in request.courses)
    if absent:
        lacks.append(f"it lacks {absent} of the {len(request.courses)} courses asked for")
    if viewer and not scene.viewer:
        lacks.append("it was made without graphics")
    if not request.payload.any() and scene.payload[: request.num_envs].any():
        lacks.append("its robots carry payloads, asked for are none")
    if lacks:
        raise ValueError(
            "Isaac Gym bears one simulation per process, and the one that this process has does "
            f"not fit: {'; '.join(lacks)}. Announce all environments before the first "
            "(go2_sevpo.envs.go2.parkour.announce), or start another process"
        )


def _build(request: Request, settings: Settings, threads: int, viewer: bool) -> Scene:
    """A simulation for ``request`` and everything that was announced."""
    api, gymtorch = load_isaacgym()
    requests = [request, *_announced]
    courses = {_key(c): c for q in requests for c in q.courses}
    largest = max(requests, key=lambda q: q.num_envs)  # the first of the largest
    device = torch.device(settings.device)
    session = open_session(api, device, threads, settings.physics_dt, viewer)
    cells = cell_origins(len(courses))
    add_courses(session, list(courses.values()), cells)
    origins = torch.from_numpy(cells).float().to(device)
    n = largest.num_envs
    robots = add_robots(
        session, origins[torch.arange(n) % len(courses)].tolist(), largest.payload.tolist()
    )
    gym, sim, wrap = session.gym, session.sim, gymtorch.wrap_tensor
    gym.prepare_sim(sim)
    scene = Scene(
        session,
        settings,
        robots,
        {key: k for k, key in enumerate(courses)},
        origins,
        largest.payload.to(device),
        viewer,
        # position, quaternion xyzw, linear velocity of the centre of mass, angular velocity: world
        root=wrap(gym.acquire_actor_root_state_tensor(sim)).view(n, 13),
        # position, velocity
        dof=wrap(gym.acquire_dof_state_tensor(sim)).view(n, len(robots.dof_names), 2),
        contact=wrap(gym.acquire_net_contact_force_tensor(sim)).view(n, len(robots.body_names), 3),
        force=torch.zeros(n, len(robots.dof_names), device=device),
        coefficients=[None] * n,
    )
    gym.refresh_actor_root_state_tensor(sim)
    gym.refresh_dof_state_tensor(sim)
    gym.refresh_net_contact_force_tensor(sim)
    return scene
