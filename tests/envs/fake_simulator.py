"""A simulator without physics: it records every call, and moves only where a test says so."""

import torch

from go2_sevpo.envs.simulators.base import RobotState

# Legs FL, FR, RL, RR; joints hip, thigh, calf (docs/courses.md: joint order everywhere).
DEFAULT_POSE = [0.1, 0.8, -1.5, -0.1, 0.8, -1.5, 0.1, 1.0, -1.5, -0.1, 1.0, -1.5]


def still(n, x=0.0, y=0.0, z=0.34):
    """``n`` robots at rest in the default pose, level, facing along x."""
    return RobotState(
        base_position=torch.tensor([[x, y, z]]).repeat(n, 1),
        base_quaternion=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(n, 1),
        base_linear_velocity=torch.zeros(n, 3),
        base_angular_velocity=torch.zeros(n, 3),
        joint_position=torch.tensor(DEFAULT_POSE).repeat(n, 1),
        joint_velocity=torch.zeros(n, 12),
        joint_torque=torch.zeros(n, 12),
        foot_force=torch.zeros(n, 4),
        body_force=torch.zeros(n, 9),
    )


def copy_state(state):
    return RobotState(**{name: value.clone() for name, value in vars(state).items()})


class FakeSimulator:
    """The protocol of envs/simulators/base.py.

    ``calls`` has a (name, arguments) pair per call that changes something; ``script``, if set, is
    called with the simulator at each step and may edit ``state``.
    """

    def __init__(self, num_envs, courses, fixed_payload=None):
        self.num_envs, self.courses = num_envs, courses
        self.device = torch.device("cpu")
        self.fixed_payload = fixed_payload
        self.state = still(num_envs)
        self.calls, self.script, self.closed = [], None, False

    def named(self, name):
        """Arguments of all calls of ``name``."""
        return [arguments for found, arguments in self.calls if found == name]

    def assign(self, env_ids, course_ids, dynamics=None):
        copies = None if dynamics is None else {k: v.clone() for k, v in vars(dynamics).items()}
        self.calls.append(("assign", (env_ids.clone(), course_ids.clone(), copies)))

    def write(self, env_ids, state):
        self.calls.append(("write", (env_ids.clone(), copy_state(state))))
        for name, value in vars(state).items():
            getattr(self.state, name)[env_ids] = value

    def push(self, env_ids, velocity):
        self.calls.append(("push", (env_ids.clone(), velocity.clone())))

    def step(self, joint_targets, active=None, delay=None):
        kept = [None if x is None else x.clone() for x in (joint_targets, active, delay)]
        self.calls.append(("step", tuple(kept)))
        if self.script is not None:
            self.script(self)

    def read(self):
        return copy_state(self.state)

    def state_dict(self):
        return {"world": copy_state(self.state)}

    def load_state_dict(self, state):
        self.calls.append(("load_state_dict", (state,)))
        self.state = copy_state(state["world"])

    def render(self, env_id, width=640, height=360, camera=None):
        return ("picture", env_id, width, height)

    def close(self):
        self.closed = True
