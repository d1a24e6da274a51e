"""The part of gymapi that the back end, legged_gym and unitree_rl_gym use, on MuJoCo, strict about
how it is used.
"""

from isaacgym._scene import SceneCalls
from isaacgym._semantics import SEMANTICS, GymError, Process  # noqa: F401
from isaacgym._tensors import TensorCalls
from isaacgym._types import *  # noqa: F403
from isaacgym._types import CameraProperties, Vec3
from isaacgym._world import Viewer


class Gym(SceneCalls, TensorCalls):
    """See the method names of Isaac Gym; here those of the viewer."""

    def create_viewer(self, sim, properties):
        self._closed(sim)
        if not isinstance(properties, CameraProperties):
            raise GymError("create_viewer needs CameraProperties")
        if sim.graphics_device < 0:
            raise GymError("a viewer needs a graphics device in create_sim")
        return Viewer(sim)

    def viewer_camera_look_at(self, viewer, env, position, target):
        if not isinstance(position, Vec3) or not isinstance(target, Vec3):
            raise GymError("the camera's position and target must be Vec3")
        viewer.position, viewer.target = position.array(), target.array()

    def step_graphics(self, sim):
        if not sim.fetched:
            raise GymError("step_graphics without fetch_results: an old state would be drawn")
        sim.graphics_fresh = True

    def draw_viewer(self, viewer, sim, render_collision_meshes):
        if not sim.graphics_fresh:
            raise GymError("draw_viewer without step_graphics after the last simulate")
        if viewer.drawn >= viewer.frames:
            raise GymError("the viewer's window is closed")
        viewer.draw()

    def sync_frame_time(self, sim):
        self._closed(sim)

    def query_viewer_has_closed(self, viewer):
        return viewer.drawn >= viewer.frames

    def subscribe_viewer_keyboard_event(self, viewer, key, name):
        return True

    def query_viewer_action_events(self, viewer):
        return []

    def poll_viewer_events(self, viewer):
        return None

    def clear_lines(self, viewer):
        return None

    def destroy_viewer(self, viewer):
        viewer.frames = 0
        print(f"stand-in: {viewer.drawn} frames drawn, a robot in {viewer.in_sight}", flush=True)


def acquire_gym():
    """The one entry."""
    return Gym()
