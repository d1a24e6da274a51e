"""Running a simulation through its tensors."""

import time

import numpy as np
import torch
from isaacgym._semantics import SEMANTICS, GymError
from isaacgym.gymtorch import Handle


class TensorCalls:
    """Methods that may be called after prepare_sim."""

    def prepare_sim(self, sim):
        self._open(sim)
        for env in sim.envs:
            env.build()
        sim.ready, sim.begun = True, time.time()
        robot, n = sim.envs[0].asset.robot, len(sim.envs)
        nan = float("nan")
        sim.root = torch.full((n, 13), nan)
        sim.dof = torch.full((n * len(robot.dofs), 2), nan)
        sim.contact = torch.full((n * len(robot.bodies), 3), nan)
        sim.bodies = torch.full((n * len(robot.bodies), 13), nan)
        return True

    def _closed(self, sim):
        if not sim.ready:
            raise GymError("prepare_sim was not called yet")

    def acquire_actor_root_state_tensor(self, sim):
        self._closed(sim)
        return Handle(sim.root)

    def acquire_dof_state_tensor(self, sim):
        self._closed(sim)
        return Handle(sim.dof)

    def acquire_net_contact_force_tensor(self, sim):
        self._closed(sim)
        return Handle(sim.contact)

    def acquire_rigid_body_state_tensor(self, sim):
        self._closed(sim)
        return Handle(sim.bodies)

    def _fresh(self, sim):
        if not sim.fetched and not sim.gpu:
            raise GymError("fetch_results was not called after simulate (CPU pipeline)")

    def _refresh(self, sim, tensor, rows):
        self._fresh(sim)
        tensor.copy_(torch.from_numpy(np.concatenate(rows).astype(np.float32)))
        return True

    def refresh_actor_root_state_tensor(self, sim):
        return self._refresh(sim, sim.root, [env.root_state()[None] for env in sim.envs])

    def refresh_dof_state_tensor(self, sim):
        rows = [np.stack([e.data.qpos[e.qadr], e.data.qvel[e.vadr]], 1) for e in sim.envs]
        return self._refresh(sim, sim.dof, rows)

    def refresh_net_contact_force_tensor(self, sim):
        return self._refresh(sim, sim.contact, [env.contact_forces() for env in sim.envs])

    def refresh_rigid_body_state_tensor(self, sim):
        return self._refresh(sim, sim.bodies, [env.body_states() for env in sim.envs])

    # ---- setters: they act at the next simulate ----

    def _full(self, handle, like, name):
        t = handle.tensor
        if t.dtype != torch.float32 or t.numel() != like.numel():
            raise GymError(
                f"{name} got {tuple(t.shape)} {t.dtype}, expected float32 of the full buffer "
                f"{tuple(like.shape)}"
            )
        return t.detach().clone().reshape(like.shape)

    def _set(self, sim, kind, handle, like, indices, count):
        self._closed(sim)
        name = f"{kind} setter"
        if name in sim.set_since_step:
            if SEMANTICS.setters == "raise":
                raise GymError(
                    f"{name} was already called since the last simulate; the first call would be "
                    "lost"
                )
            sim.pending = [p for p in sim.pending if p[0] != kind]
        sim.set_since_step.add(name)
        ids = range(len(sim.envs))
        if indices is not None:
            found = indices.tensor
            if found.dtype != torch.int32 or found.numel() < count:
                raise GymError(
                    f"{name}: indices are {found.dtype}, {found.numel()} of them, expected int32 "
                    f"and {count}"
                )
            ids = found[:count].tolist()
        sim.pending.append((kind, self._full(handle, like, name).double().numpy(), ids))
        return True

    def set_actor_root_state_tensor(self, sim, handle):
        return self._set(sim, "root", handle, sim.root, None, 0)

    def set_actor_root_state_tensor_indexed(self, sim, handle, indices, count):
        return self._set(sim, "root", handle, sim.root, indices, count)

    def set_dof_state_tensor(self, sim, handle):
        return self._set(sim, "dof", handle, sim.dof, None, 0)

    def set_dof_state_tensor_indexed(self, sim, handle, indices, count):
        return self._set(sim, "dof", handle, sim.dof, indices, count)

    def set_dof_actuation_force_tensor(self, sim, handle):
        like = torch.empty(len(sim.envs), len(sim.envs[0].asset.robot.dofs))
        sim.forces = self._full(handle, like, "set_dof_actuation_force_tensor").numpy()
        return True

    def _apply(self, sim):
        for kind, values, ids in sim.pending:
            for i in ids:
                env = sim.envs[i]
                if kind == "root":
                    env.set_root_state(values[i])
                else:
                    rows = values.reshape(len(sim.envs), -1, 2)[i]
                    env.data.qpos[env.qadr], env.data.qvel[env.vadr] = rows[:, 0], rows[:, 1]
                    env.data.qacc_warmstart[:] = 0.0
        sim.pending = []

    # ---- time ----

    def simulate(self, sim):
        self._closed(sim)
        self._apply(sim)
        forces = np.zeros(1) if sim.forces is None else sim.forces
        for i, env in enumerate(sim.envs):
            env.step(forces[min(i, len(forces) - 1)])
        sim.forces, sim.set_since_step, sim.steps = None, set(), sim.steps + 1
        sim.fetched = sim.graphics_fresh = False

    def fetch_results(self, sim, wait):
        sim.fetched = True

    def get_sim_time(self, sim):
        return sim.steps * sim.params.dt

    def get_elapsed_time(self, sim):
        return time.time() - sim.begun

    def destroy_sim(self, sim):
        sim.envs = []
