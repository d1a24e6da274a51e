"""The messages' types as DDS knows them (Unitree's and ROS 2's published IDL).

Only the types: samples travel as bytes that :mod:`~go2_sevpo.deploy.robot.messages.fixed` and
:mod:`~go2_sevpo.deploy.robot.messages.variable` wrote, as the general codec takes 0.6 ms for one
``LowState_``. This module alone of the messages needs ``cyclonedds``.
"""

# mypy: disable-error-code="type-arg,valid-type"
# Annotations are looked at while the classes are made, so they are not postponed here.
from dataclasses import dataclass
from typing import Dict, Type

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.annotations import autoid, final
from cyclonedds.idl.types import (
    array,
    float32,
    float64,
    int16,
    int32,
    sequence,
    uint8,
    uint16,
    uint32,
)

_GO = "unitree_go.msg.dds_"


@dataclass
@final
@autoid("sequential")
class IMUState(IdlStruct, typename=f"{_GO}.IMUState_"):
    """Part of :class:`LowState`."""

    quaternion: array[float32, 4]
    gyroscope: array[float32, 3]
    accelerometer: array[float32, 3]
    rpy: array[float32, 3]
    temperature: uint8


@dataclass
@final
@autoid("sequential")
class MotorState(IdlStruct, typename=f"{_GO}.MotorState_"):
    """Part of :class:`LowState`."""

    mode: uint8
    q: float32
    dq: float32
    ddq: float32
    tau_est: float32
    q_raw: float32
    dq_raw: float32
    ddq_raw: float32
    temperature: uint8
    lost: uint32
    reserve: array[uint32, 2]


@dataclass
@final
@autoid("sequential")
class BmsState(IdlStruct, typename=f"{_GO}.BmsState_"):
    """Part of :class:`LowState`."""

    version_high: uint8
    version_low: uint8
    status: uint8
    soc: uint8
    current: int32
    cycle: uint16
    bq_ntc: array[uint8, 2]
    mcu_ntc: array[uint8, 2]
    cell_vol: array[uint16, 15]


@dataclass
@final
@autoid("sequential")
class LowState(IdlStruct, typename=f"{_GO}.LowState_"):
    """See :class:`go2_sevpo.deploy.robot.messages.fixed.LowState`."""

    head: array[uint8, 2]
    level_flag: uint8
    frame_reserve: uint8
    sn: array[uint32, 2]
    version: array[uint32, 2]
    bandwidth: uint16
    imu_state: IMUState
    motor_state: array[MotorState, 20]
    bms_state: BmsState
    foot_force: array[int16, 4]
    foot_force_est: array[int16, 4]
    tick: uint32
    wireless_remote: array[uint8, 40]
    bit_flag: uint8
    adc_reel: float32
    temperature_ntc1: uint8
    temperature_ntc2: uint8
    power_v: float32
    power_a: float32
    fan_frequency: array[uint16, 4]
    reserve: uint32
    crc: uint32


@dataclass
@final
@autoid("sequential")
class MotorCmd(IdlStruct, typename=f"{_GO}.MotorCmd_"):
    """Part of :class:`LowCmd`."""

    mode: uint8
    q: float32
    dq: float32
    tau: float32
    kp: float32
    kd: float32
    reserve: array[uint32, 3]


@dataclass
@final
@autoid("sequential")
class BmsCmd(IdlStruct, typename=f"{_GO}.BmsCmd_"):
    """Part of :class:`LowCmd`."""

    off: uint8
    reserve: array[uint8, 3]


@dataclass
@final
@autoid("sequential")
class LowCmd(IdlStruct, typename=f"{_GO}.LowCmd_"):
    """See :class:`go2_sevpo.deploy.robot.messages.fixed.LowCmd`."""

    head: array[uint8, 2]
    level_flag: uint8
    frame_reserve: uint8
    sn: array[uint32, 2]
    version: array[uint32, 2]
    bandwidth: uint16
    motor_cmd: array[MotorCmd, 20]
    bms_cmd: BmsCmd
    wireless_remote: array[uint8, 40]
    led: array[uint8, 12]
    fan: array[uint8, 2]
    gpio: uint8
    reserve: uint32
    crc: uint32


@dataclass
@final
@autoid("sequential")
class WirelessController(IdlStruct, typename=f"{_GO}.WirelessController_"):
    """See :class:`go2_sevpo.deploy.robot.messages.fixed.WirelessController`."""

    lx: float32
    ly: float32
    rx: float32
    ry: float32
    keys: uint16


@dataclass
@final
@autoid("sequential")
class TimeSpec(IdlStruct, typename=f"{_GO}.TimeSpec_"):
    """Part of :class:`SportModeState`."""

    sec: int32
    nanosec: uint32


@dataclass
@final
@autoid("sequential")
class PathPoint(IdlStruct, typename=f"{_GO}.PathPoint_"):
    """Part of :class:`SportModeState`."""

    t_from_start: float32
    x: float32
    y: float32
    yaw: float32
    vx: float32
    vy: float32
    vyaw: float32


@dataclass
@final
@autoid("sequential")
class SportModeState(IdlStruct, typename=f"{_GO}.SportModeState_"):
    """See :class:`go2_sevpo.deploy.robot.messages.fixed.SportModeState`."""

    stamp: TimeSpec
    error_code: uint32
    imu_state: IMUState
    mode: uint8
    progress: float32
    gait_type: uint8
    foot_raise_height: float32
    position: array[float32, 3]
    body_height: float32
    velocity: array[float32, 3]
    yaw_speed: float32
    range_obstacle: array[float32, 4]
    foot_force: array[int16, 4]
    foot_position_body: array[float32, 12]
    foot_speed_body: array[float32, 12]
    path_point: array[PathPoint, 10]


@dataclass
@final
@autoid("sequential")
class HeightMap(IdlStruct, typename=f"{_GO}.HeightMap_"):
    """See :class:`go2_sevpo.deploy.robot.messages.variable.HeightMap`."""

    stamp: float64
    frame_id: str
    resolution: float32
    width: uint32
    height: uint32
    origin: array[float32, 2]
    data: sequence[float32]


@dataclass
@final
@autoid("sequential")
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    """Part of :class:`Header`."""

    sec: int32
    nanosec: uint32


@dataclass
@final
@autoid("sequential")
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    """Part of :class:`PointCloud2` and :class:`Odometry`."""

    stamp: Time
    frame_id: str


@dataclass
@final
@autoid("sequential")
class PointField(IdlStruct, typename="sensor_msgs.msg.dds_.PointField_"):
    """Part of :class:`PointCloud2`."""

    name: str
    offset: uint32
    datatype: uint8
    count: uint32


@dataclass
@final
@autoid("sequential")
class PointCloud2(IdlStruct, typename="sensor_msgs.msg.dds_.PointCloud2_"):
    """See :class:`go2_sevpo.deploy.robot.messages.variable.PointCloud`."""

    header: Header
    height: uint32
    width: uint32
    fields: sequence[PointField]
    is_bigendian: bool
    point_step: uint32
    row_step: uint32
    data: sequence[uint8]
    is_dense: bool


@dataclass
@final
@autoid("sequential")
class Point(IdlStruct, typename="geometry_msgs.msg.dds_.Point_"):
    """Part of :class:`Odometry`."""

    x: float64
    y: float64
    z: float64


@dataclass
@final
@autoid("sequential")
class Quaternion(IdlStruct, typename="geometry_msgs.msg.dds_.Quaternion_"):
    """Part of :class:`Odometry`; the scalar comes last."""

    x: float64
    y: float64
    z: float64
    w: float64


@dataclass
@final
@autoid("sequential")
class Pose(IdlStruct, typename="geometry_msgs.msg.dds_.Pose_"):
    """Part of :class:`Odometry`."""

    position: Point
    orientation: Quaternion


@dataclass
@final
@autoid("sequential")
class PoseWithCovariance(IdlStruct, typename="geometry_msgs.msg.dds_.PoseWithCovariance_"):
    """Part of :class:`Odometry`."""

    pose: Pose
    covariance: array[float64, 36]


@dataclass
@final
@autoid("sequential")
class Vector3(IdlStruct, typename="geometry_msgs.msg.dds_.Vector3_"):
    """Part of :class:`Odometry`."""

    x: float64
    y: float64
    z: float64


@dataclass
@final
@autoid("sequential")
class Twist(IdlStruct, typename="geometry_msgs.msg.dds_.Twist_"):
    """Part of :class:`Odometry`."""

    linear: Vector3
    angular: Vector3


@dataclass
@final
@autoid("sequential")
class TwistWithCovariance(IdlStruct, typename="geometry_msgs.msg.dds_.TwistWithCovariance_"):
    """Part of :class:`Odometry`."""

    twist: Twist
    covariance: array[float64, 36]


@dataclass
@final
@autoid("sequential")
class Odometry(IdlStruct, typename="nav_msgs.msg.dds_.Odometry_"):
    """See :class:`go2_sevpo.deploy.robot.messages.variable.Odometry`."""

    header: Header
    child_frame_id: str
    pose: PoseWithCovariance
    twist: TwistWithCovariance


TYPES: Dict[str, Type[IdlStruct]] = {
    "LowState": LowState,
    "LowCmd": LowCmd,
    "WirelessController": WirelessController,
    "SportModeState": SportModeState,
    "HeightMap": HeightMap,
    "PointCloud": PointCloud2,
    "Odometry": Odometry,
}
"""By the name of the class that reads and writes their bytes."""
