"""The reach-avoid task of the paper's Figure 1 (Appendix C.1): to a goal, around a hazard.

State (x, y, v, theta), shape (B, 4): position in m, speed in m/s, heading in rad. Action
(acceleration, angular velocity) in [-1, 1]^2, in m/s^2 and rad/s. Explicit Euler steps of 0.05 s,
speed kept within [0, 2]. The hazard is a disc of radius 0.8 at the origin, the goal one of radius
0.3 at (2.2, 2.2), the map |x|, |y| <= 3.

The paper gives the state, the hazard, the goal, the start and the reward's terms; the unit action
bounds, the step and the map follow the task it is adapted from (FISOR); the speed range and the
goal's reward are ours. The paper prints c = 1{h <= 0} with h = R - d, which is a cost *outside* the
hazard; here the cost is 1 inside.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Optional, Tuple

import gymnasium
import numpy as np
import torch

from go2_sevpo.envs.reach_avoid import ENV_ID  # noqa: F401
from go2_sevpo.policies.contract import CONTRACT_VERSION

DT = 0.05
MAX_STEPS = 300
BOUND = 3.0
MAX_SPEED = 2.0
HAZARD_RADIUS = 0.8
GOAL = (2.2, 2.2)
GOAL_RADIUS = 0.3
GOAL_REWARD = 5.0
PAPER_START = (-0.8, -1.5, 1.2, math.pi / 4)
OBSERVATION = ("x", "y", "v", "cos_theta", "sin_theta")
NUM_OBS, NUM_ACTIONS = 5, 2


def environment_contract() -> Dict[str, Any]:
    """What a policy must have been made for to be played on this task."""
    return {
        "contract_version": CONTRACT_VERSION,
        "robot": "reach_avoid_vehicle",
        "control_dt": DT,
        "action_clip": 1.0,
        "action_names": ["acceleration", "angular_velocity"],
        "observation": {"names": list(OBSERVATION), "size": NUM_OBS},
    }


def advance(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """One Euler step of states (..., 4) under actions (..., 2), clipped to [-1, 1]."""
    action = action.clamp(-1.0, 1.0)
    x, y, v, theta = state.unbind(-1)
    moved = [
        x + DT * v * torch.cos(theta),
        y + DT * v * torch.sin(theta),
        (v + DT * action[..., 0]).clamp(0.0, MAX_SPEED),
        theta + DT * action[..., 1],
    ]
    return torch.stack(moved, -1)


def in_hazard(state: torch.Tensor) -> torch.Tensor:
    """Whether states (..., 4) are inside the hazard."""
    return state[..., :2].norm(dim=-1) < HAZARD_RADIUS


def constraint_value(state: torch.Tensor) -> torch.Tensor:
    """How deep states (..., 4) are inside the hazard, (...,), m; below 0 outside: FISOR's h."""
    return HAZARD_RADIUS - state[..., :2].norm(dim=-1)


def goal_distance(state: torch.Tensor) -> torch.Tensor:
    """Distance (...,) of states (..., 4) to the goal's centre, m."""
    return (state[..., :2] - state.new_tensor(GOAL)).norm(dim=-1)


def at_goal(state: torch.Tensor) -> torch.Tensor:
    """Whether states (..., 4) are inside the goal."""
    return goal_distance(state) <= GOAL_RADIUS


def outside(state: torch.Tensor) -> torch.Tensor:
    """Whether states (..., 4) have left the map."""
    return (state[..., :2].abs() > BOUND).any(-1)


def observe(state: torch.Tensor) -> torch.Tensor:
    """Observations (..., 5): x, y, v, cos theta, sin theta; a pair has no seam."""
    x, y, v, theta = state.unbind(-1)
    return torch.stack([x, y, v, torch.cos(theta), torch.sin(theta)], -1)


def state_of(obs: torch.Tensor) -> torch.Tensor:
    """States (..., 4) of observations (..., 5)."""
    theta = torch.atan2(obs[..., 4], obs[..., 3])
    return torch.cat([obs[..., :3], theta[..., None]], -1)


def random_states(n: int, generator: torch.Generator) -> torch.Tensor:
    """States (n, 4) uniform over map, speeds and headings, none at the goal."""
    scale = torch.tensor([2 * BOUND, 2 * BOUND, MAX_SPEED, 2 * math.pi])
    shift = torch.tensor([BOUND, BOUND, 0.0, math.pi])
    # Uniform in the box from (-3, -3, 0, -pi) to (3, 3, 2, pi).
    state = torch.rand(n, 4, generator=generator) * scale - shift
    # Those at the goal are drawn again, until none is.
    while bool((again := at_goal(state)).any()):
        state[again] = torch.rand(int(again.sum()), 4, generator=generator) * scale - shift
    return state


Tensors = Dict[str, torch.Tensor]
Step = Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Tensors]
"""Observations, rewards, costs, terminated, truncated, info."""


class ReachAvoid:
    """B worlds, which end at the goal or off the map (terminated) or after 300 steps (truncated).

    ``step`` returns observation (B, 5), reward (B,), cost (B,), terminated (B,), truncated (B,),
    info with ``success`` (in the goal), ``left`` (off the map: a failure of its own, never a safe
    success) and ``final_observation``. The reward is the progress towards the goal in m, plus 5 on
    arrival; the cost is 1 in the hazard after the step. Ended worlds are reset to random states,
    unless ``auto_reset`` is off.
    """

    num_obs, num_actions = NUM_OBS, NUM_ACTIONS

    def __init__(self, num_envs: int, seed: int = 0, auto_reset: bool = True) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}, expected at least 1")
        self.num_envs, self.auto_reset = num_envs, auto_reset
        self.generator = torch.Generator().manual_seed(seed)
        self.state = torch.zeros(num_envs, 4)
        self.steps = torch.zeros(num_envs, dtype=torch.long)

    def reset(self, states: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Put all worlds into ``states`` (B, 4), or into random ones; returns observations.

        Raises:
            ValueError: states of another shape.
        """
        if states is None:
            states = random_states(self.num_envs, self.generator)
        if states.shape != (self.num_envs, 4):
            raise ValueError(
                f"states have shape {tuple(states.shape)}, expected {(self.num_envs, 4)}"
            )
        self.state = states.clone().float()
        self.steps = torch.zeros(self.num_envs, dtype=torch.long)
        return observe(self.state)

    def step(self, action: torch.Tensor) -> Step:
        """Advance all worlds by one step under actions (B, 2); see the class."""
        before = goal_distance(self.state)
        self.state = advance(self.state, action)
        self.steps = self.steps + 1
        success, left = at_goal(self.state), outside(self.state)
        # Potential-based: the progress of an episode sums up to the way it got nearer.
        reward = before - goal_distance(self.state) + GOAL_REWARD * success.float()
        cost = in_hazard(self.state).float()
        terminated = success | left
        truncated = (self.steps >= MAX_STEPS) & ~terminated
        final = observe(self.state)
        done = terminated | truncated
        if self.auto_reset and bool(done.any()):
            # A state for every world is drawn, so the draws do not depend on who has ended.
            fresh = random_states(self.num_envs, self.generator)
            self.state = torch.where(done[:, None], fresh, self.state)
            self.steps = torch.where(done, torch.zeros_like(self.steps), self.steps)
        info = {"success": success, "left": left, "final_observation": final}
        return observe(self.state), reward, cost, terminated, truncated, info


class ReachAvoidGym(gymnasium.Env):
    """One world behind gymnasium's interface; ``info["cost"]`` as in Safety-Gymnasium.

    ``reset(options={"state": (x, y, v, theta)})`` starts there; otherwise ``start`` is ``paper`` or
    ``random``.
    """

    metadata: Dict[str, Any] = {"render_modes": []}

    def __init__(self, start: str = "paper") -> None:
        if start not in ("paper", "random"):
            raise ValueError(f"start is '{start}', expected paper or random")
        self.start, self._env = start, ReachAvoid(1, auto_reset=False)
        high = np.array([BOUND + 0.2, BOUND + 0.2, MAX_SPEED, 1.0, 1.0], dtype=np.float32)
        low = np.array([-BOUND - 0.2, -BOUND - 0.2, 0.0, -1.0, -1.0], dtype=np.float32)
        self.observation_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (NUM_ACTIONS,), dtype=np.float32)

    def reset(
        self, *, seed: Optional[int] = None, options: Optional[Dict[str, Any]] = None
    ) -> Tuple[np.ndarray, Dict[str, Any]]:
        """See :meth:`gymnasium.Env.reset`."""
        super().reset(seed=seed)
        if options and "state" in options:
            state = torch.tensor([list(options["state"])], dtype=torch.float32)
        elif self.start == "paper":
            state = torch.tensor([PAPER_START])
        else:
            draw = torch.Generator().manual_seed(int(self.np_random.integers(2**31)))
            state = random_states(1, draw)
        return self._env.reset(state)[0].numpy(), {}

    def step(self, action: np.ndarray) -> Tuple[np.ndarray, float, bool, bool, Dict[str, Any]]:
        """See :meth:`gymnasium.Env.step`."""
        tensor = torch.as_tensor(np.asarray(action, dtype=np.float32)).reshape(1, NUM_ACTIONS)
        obs, reward, cost, terminated, truncated, info = self._env.step(tensor)
        extra = {
            "cost": float(cost[0]),
            "success": bool(info["success"][0]),
            "left": bool(info["left"][0]),
        }
        return obs[0].numpy(), float(reward[0]), bool(terminated[0]), bool(truncated[0]), extra
