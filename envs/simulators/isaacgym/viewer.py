"""Isaac Gym's own viewer, following one robot in real time."""

from __future__ import annotations

from typing import Any, Sequence

OFFSET = (-1.6, 2.2, 1.0)
"""Camera relative to the robot, m, world axes."""


class Window:
    """A viewer of the simulation ``sim``, opened by ``gym`` of the module ``api``.

    Isaac Gym has no type stubs, hence ``Any``.

    Raises:
        ValueError: Isaac Gym could not open a window.
    """

    def __init__(self, gym: Any, api: Any, sim: Any) -> None:
        self._gym, self._api, self._sim = gym, api, sim
        self._viewer = gym.create_viewer(sim, api.CameraProperties())
        self.world = 0
        """The world whose robot the camera follows."""
        self._follows = True
        self._offset: Sequence[float] = OFFSET
        self._target: Sequence[float] = (0.0, 0.0, 0.0)
        if self._viewer is None:
            raise ValueError(
                "Isaac Gym could not open a viewer (no screen, or no Vulkan driver); "
                "use --video instead"
            )

    def draw(self, position: Sequence[float]) -> None:
        """Draw the present state; ``position`` (3,), m, is that of the robot that is followed.

        Waits until the simulation's clock is the wall's.
        """
        if self._follows:
            around = [[p + o for p, o in zip(position, x)] for x in (self._offset, self._target)]
            self._look(*around)
        # On a GPU pipeline results stay on the GPU until they are fetched.
        self._gym.fetch_results(self._sim, True)
        self._gym.step_graphics(self._sim)
        self._gym.draw_viewer(self._viewer, self._sim, True)
        self._gym.sync_frame_time(self._sim)

    def follow(self, world: int, offset: Sequence[float], target: Sequence[float]) -> None:
        """Follow the robot of ``world``; ``offset`` and ``target`` (3,) are relative to it, m."""
        self.world, self._offset, self._target, self._follows = world, offset, target, True

    def place(self, position: Sequence[float], target: Sequence[float]) -> None:
        """Put the camera at ``position`` (3,), m, looking at ``target`` (3,), for good."""
        self._follows = False
        self._look(position, target)

    def _look(self, position: Sequence[float], target: Sequence[float]) -> None:
        places = (self._api.Vec3(*(float(x) for x in p)) for p in (position, target))
        self._gym.viewer_camera_look_at(self._viewer, None, *places)

    @property
    def handle(self) -> Any:
        """Isaac Gym's viewer."""
        return self._viewer

    @property
    def closed(self) -> bool:
        """Whether the user has closed the window."""
        return bool(self._gym.query_viewer_has_closed(self._viewer))

    def close(self) -> None:
        """Close the window."""
        self._gym.destroy_viewer(self._viewer)
