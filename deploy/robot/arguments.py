"""The arguments of ``go2-robot``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, Tuple, Union

import tyro
from typing_extensions import Annotated


@dataclass
class Network:
    """Where the robot is."""

    net: str = "lo"
    """Network interface: lo (a virtual robot on this machine), or the one the robot is on."""
    domain: Optional[int] = None
    """DDS domain; 1 on lo and 0 elsewhere if not given."""
    real_robot: bool = False
    """Needed to open any other interface than lo."""
    checksums: bool = True
    """Take only states with a right checksum (Unitree's simulator sends none)."""


@dataclass
class Virtual:
    """The virtual robot."""

    course: str = "hard"
    """flat, simple or hard."""
    difficulty: float = 1.0
    seed: int = 0
    perception: str = "depth"
    """depth or lidar (points), map (true heights), or none."""
    drift: float = 1.0
    """Times 2% of the way, 1% in height, 0.5 degrees per second (rms)."""
    perception_delay: float = 0.04
    """s from a measurement to its message."""
    damping: float = 0.0
    """N m s/rad of every joint."""
    payload: float = 0.0
    """kg on the base."""
    delay: float = 0.0
    """s from a command to the motors."""
    friction: float = 1.0
    """Factor on the course's friction."""


@dataclass
class Check:
    """Listen, and print what is alive and at which rate. Sends nothing."""

    network: tyro.conf.OmitArgPrefixes[Network] = field(default_factory=Network)
    seconds: float = 3.0
    """How long to listen."""


@dataclass
class Motion:
    """How the robot is started."""

    auto: bool = False
    """No remote: stand up at once, let the policy act half a second later."""
    seconds: Optional[float] = None
    """Damp after this long."""
    log: Optional[Path] = None
    """Write every message to this file, for `go2-robot replay`."""


@dataclass
class Stand:
    """Stand up and hold the default pose."""

    network: tyro.conf.OmitArgPrefixes[Network] = field(default_factory=Network)
    motion: tyro.conf.OmitArgPrefixes[Motion] = field(default_factory=Motion)
    policy: str = "expert"
    """Its contract says what the default pose and the limits are."""


@dataclass
class Run:
    """Stand up and let a policy walk to a goal."""

    policy: tyro.conf.Positional[str]
    """ONNX file, or the name of a shipped policy."""
    network: tyro.conf.OmitArgPrefixes[Network] = field(default_factory=Network)
    motion: tyro.conf.OmitArgPrefixes[Motion] = field(default_factory=Motion)
    goal: Tuple[float, float] = (5.0, 0.0)
    """m ahead and to the left of where the policy starts."""
    odom_goal: bool = False
    """The goal's coordinates are those of the odometry frame."""
    once: bool = False
    """End when the goal is reached."""
    flat_map: bool = False
    """No map comes: take the ground for level. For flat floors only."""


@dataclass
class Record:
    """Run a policy, and write what happened as a dataset that go2-train reads."""

    policy: tyro.conf.Positional[str]
    """ONNX file, or the name of a shipped policy."""
    out: Path = Path("runs/robot_data")
    """Folder of the dataset; more episodes are added to what is there."""
    network: tyro.conf.OmitArgPrefixes[Network] = field(default_factory=Network)
    motion: tyro.conf.OmitArgPrefixes[Motion] = field(default_factory=Motion)
    goal: Tuple[float, float] = (5.0, 0.0)
    """m ahead and to the left of where the policy starts."""
    virtual: int = 0
    """Instead of a robot: this many episodes of the virtual one, in lockstep."""
    noise: Optional[float] = None
    """Scale of the sampling noise; the policy's own if not given."""
    robot: tyro.conf.OmitArgPrefixes[Virtual] = field(default_factory=Virtual)


@dataclass
class Replay:
    """Give a log to the controller again, and compare its commands with those that were sent."""

    log: tyro.conf.Positional[Path]
    """What `run --log` wrote."""


@dataclass
class Plant:
    """The virtual robot in real time, on lo."""

    robot: tyro.conf.OmitArgPrefixes[Virtual] = field(default_factory=Virtual)
    network: tyro.conf.OmitArgPrefixes[Network] = field(default_factory=Network)
    lying: bool = True
    """Start folded on the ground."""
    seconds: Optional[float] = None
    """End after this long."""


@dataclass
class Demo:
    """Virtual robot and controller together: success table, and a film."""

    policy: tyro.conf.Positional[str] = "sevpo"
    """ONNX file, or the name of a shipped policy."""
    robot: tyro.conf.OmitArgPrefixes[Virtual] = field(default_factory=Virtual)
    episodes: int = 5
    """In lockstep: one thread, no network, exact."""
    out: Path = Path("runs/robot_demo")
    """Folder of report.json and demo.mp4."""
    film: bool = True
    """Film the first episode."""
    real_time: bool = False
    """Two processes over DDS on lo instead, one episode of 30 s."""


Command = Union[
    Annotated[Check, tyro.conf.subcommand("check")],
    Annotated[Stand, tyro.conf.subcommand("stand")],
    Annotated[Run, tyro.conf.subcommand("run")],
    Annotated[Record, tyro.conf.subcommand("record")],
    Annotated[Replay, tyro.conf.subcommand("replay")],
    Annotated[Plant, tyro.conf.subcommand("plant")],
    Annotated[Demo, tyro.conf.subcommand("demo")],
]
