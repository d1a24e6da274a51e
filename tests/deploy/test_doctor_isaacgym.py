"""What ``go2-doctor --isaacgym`` would have caught: each fault put back makes a check fail by name.

The stand-in has the real thing's documented rules, each of which has a test of its own
(tests/isaacgym_standin/test_semantics.py); the faults are put into the back end.
"""

import pytest
import torch

from go2_sevpo.deploy.doctor import isaacgym as doctor
from go2_sevpo.envs.simulators.isaacgym import process, simulator, viewer
from tests.isaacgym_standin.load import install

SECOND = "a second simulator in one process"


def examine(*checks, make=simulator.IsaacGymSimulator):
    """Verdicts by name, of ``checks`` and of another simulator in the process."""
    found = doctor.examine(lambda *a, **o: make(*a, device="cpu", **o), checks)
    return {name: (right, text) for name, right, text in found}


@pytest.mark.slow
def test_all_is_well():
    install()
    found = examine(*doctor.CHECKS)
    assert len(found) == 19 and all(right for right, _ in found.values()), found


def test_joint_friction_given_to_the_simulation(monkeypatch):
    api = install()
    real = api.Gym.set_actor_dof_properties

    def with_friction(gym, env, actor, props):
        props["friction"] = 0.2  # meant as N m
        return real(gym, env, actor, props)

    monkeypatch.setattr(api.Gym, "set_actor_dof_properties", with_friction)
    right, text = examine(doctor.joint_resistance)["joint friction does not grow with the load"]
    assert right is False
    # 0.2 (|F| + |T|) with |F| of a quarter of 15 kg g: ten times 0.2 N m and more.
    assert float(text.split("with ")[1].split()[0]) > 1.5


def test_a_simulation_for_each_simulator(monkeypatch):
    install()

    def always_new(user, request, settings, threads, window):
        process._scene = None
        return borrow(user, request, settings, threads, window)

    borrow = process.borrow
    monkeypatch.setattr(process, "borrow", always_new)
    right, text = examine()[SECOND]
    assert right is False and "Foundation object exists already" in text


def test_friction_drawn_anew_at_every_reset(monkeypatch):
    install()
    monkeypatch.setattr(simulator, "FRICTION_BUCKETS", 2**20)
    right, text = examine(doctor.materials)["friction comes from buckets"]
    assert right is False and "1500 draws" in text


def test_velocity_of_the_centre_of_mass(monkeypatch):
    install()
    nothing = lambda sim, quaternion, spin: torch.zeros_like(spin)  # noqa: E731
    monkeypatch.setattr(simulator.IsaacGymSimulator, "_lead", nothing)
    right, text = examine(doctor.base_velocity)["base velocity is the origin's"]
    assert right is False
    # 21 mm at 5 rad/s
    assert float(text.split("at most ")[1].split()[0]) == pytest.approx(0.105, abs=0.04)


def test_armature_twice():
    api = install()
    real = api.Gym.load_asset

    def with_armature(gym, sim, root, file, options):
        options.armature = 0.01
        return real(gym, sim, root, file, options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api.Gym, "load_asset", with_armature)
        name = "moving joints: inertia of the motors once"
        right, text = examine(doctor.moving_joints)[name]
    assert right is False, text


def test_contacts_without_the_filter():
    install()

    class Unfiltered(simulator.IsaacGymSimulator):
        @property
        def _felt(self):
            return torch.zeros(self.num_envs, len(self._body_names))

        @_felt.setter
        def _felt(self, value):
            """Nothing is kept."""

    right, text = examine(doctor.contacts, make=Unfiltered)["a standing foot has contact"]
    assert right is False, text


def test_a_frame_drawn_without_fetching(monkeypatch):
    install()

    def draw(window, position):
        window._gym.step_graphics(window._sim)
        window._gym.draw_viewer(window._viewer, window._sim, True)

    monkeypatch.setattr(viewer.Window, "draw", draw)
    right, _ = examine(doctor.drawing)["results are fetched before drawing"]
    assert right is False


def test_what_breaks_is_a_finding(monkeypatch):
    install()

    def broken(sim):
        raise RuntimeError("no GPU")

    assert examine(broken)["broken"] == (False, "RuntimeError: no GPU")
