"""Messages: the general DDS codec and a bitwise checksum say what the bytes should be."""

import dataclasses
import struct

import numpy as np
import pytest

from go2_sevpo.deploy.robot.messages.crc import crc32
from go2_sevpo.deploy.robot.messages.fixed import (
    Field,
    LowCmd,
    LowState,
    MessageError,
    SportModeState,
    WirelessController,
)
from go2_sevpo.deploy.robot.messages.variable import HeightMap, Odometry, PointCloud

UNITREE_CRC = 0xA2C3B4CF


def bitwise(words):
    """The checksum as Unitree's manual describes it: bit by bit, the highest first."""
    register = 0xFFFFFFFF
    for (word,) in struct.iter_unpack("<I", words):
        for bit in range(31, -1, -1):
            top = register >> 31 & 1
            register = register << 1 & 0xFFFFFFFF
            if top:
                register ^= 0x04C11DB7
            if word >> bit & 1:
                register ^= 0x04C11DB7
    return register


def test_checksum_is_the_bitwise_one():
    rng = np.random.default_rng(0)
    for length in (4, 8, 64, 808):
        data = rng.bytes(length)
        assert crc32(data) == bitwise(data)
    assert crc32(b"\0\0\0\0") == 0xC704DD7B  # the CRC-32/MPEG-2 of four zeros
    with pytest.raises(ValueError, match="3 bytes"):
        crc32(b"abc")


def test_a_real_command_has_the_checksum_of_unitrees_library():
    # Computed once with unitree_sdk2_python's crc library.
    command = LowCmd.idle()
    command.q[:12], command.kp[:12], command.kd[:12] = 0.5, 30.0, 0.7
    command.seal()
    assert command.intact() and command.crc == UNITREE_CRC


def filled(cls, seed=0):
    rng, message = np.random.default_rng(seed), cls()
    for name, field in vars(cls).items():
        if isinstance(field, Field):
            view = field.view(message)
            if view.dtype.kind == "f":
                view[...] = rng.normal(size=view.shape)
            else:
                view[...] = rng.integers(0, 100, size=view.shape)
            assert np.array_equal(np.asarray(getattr(message, name)), view)
    return message


PAIRS = (LowState, LowCmd, WirelessController, SportModeState)


@pytest.mark.parametrize("cls", PAIRS)
def test_bytes_are_those_of_the_general_codec(cls):
    idl = pytest.importorskip("cyclonedds") and __import__(
        "go2_sevpo.deploy.robot.messages.idl", fromlist=["TYPES"]
    )
    kind = idl.TYPES[cls.__name__]
    message = filled(cls)
    read = kind.__idl__.deserialize(message.to_bytes(), has_header=True)
    again = bytes(kind.__idl__.serialize(read))
    assert len(again) == cls.SIZE
    if cls is not SportModeState:  # of which only some fields are named
        assert again == message.to_bytes()


def test_fields_are_the_named_ones():
    pytest.importorskip("cyclonedds")
    from go2_sevpo.deploy.robot.messages.idl import TYPES

    message = filled(LowState)
    state = TYPES["LowState"].__idl__.deserialize(message.to_bytes(), has_header=True)
    assert np.allclose([m.q for m in state.motor_state], message.q)
    assert np.allclose([m.tau_est for m in state.motor_state], message.tau_est)
    assert [m.lost for m in state.motor_state] == message.lost.tolist()
    assert [m.mode for m in state.motor_state] == [message.first_mode, *message.other_modes]
    assert np.allclose(state.imu_state.quaternion, message.quaternion)
    assert list(state.foot_force) == message.foot_force.tolist()
    assert (state.tick, state.crc) == (message.tick, message.crc)
    sport = filled(SportModeState)
    read = TYPES["SportModeState"].__idl__.deserialize(sport.to_bytes(), has_header=True)
    assert np.allclose(read.position, sport.position) and np.allclose(read.velocity, sport.velocity)
    command = filled(LowCmd)
    read = TYPES["LowCmd"].__idl__.deserialize(command.to_bytes(), has_header=True)
    for name in ("q", "dq", "tau", "kp", "kd"):
        found = [getattr(m, name) for m in read.motor_cmd]
        assert np.allclose(found, getattr(command, name)), name


def as_dds(message, name, **fields):
    """The general codec's object of a message whose size varies."""
    from go2_sevpo.deploy.robot.messages.idl import TYPES

    return TYPES[name].__idl__.deserialize(message.to_bytes(), has_header=True)


def test_messages_of_varying_size_are_those_of_the_general_codec():
    pytest.importorskip("cyclonedds")
    rng = np.random.default_rng(1)
    heights = rng.normal(size=(3, 5)).astype(np.float32)
    heights[1, 2] = np.nan
    grid = HeightMap(12.5, "odom", 0.06, (1.0, -2.0), heights)
    seen = as_dds(grid, "HeightMap")
    assert (seen.width, seen.height, seen.frame_id, seen.stamp) == (5, 3, "odom", 12.5)
    assert seen.data[7] == pytest.approx(1e9)
    again = HeightMap.from_bytes(bytes(type(seen).__idl__.serialize(seen)))
    assert np.array_equal(again.data, heights, equal_nan=True) and again.origin == (1.0, -2.0)
    points = rng.normal(size=(7, 3)).astype(np.float32)
    seen = as_dds(PointCloud(3.25, "odom", points), "PointCloud")
    assert (seen.width, seen.point_step, seen.header.stamp.nanosec) == (7, 12, 250_000_000)
    # Unitree's clouds have more fields than coordinates.
    step = 32
    wide = np.zeros((7, step), np.uint8)
    wide[:, :12] = points.view(np.uint8).reshape(7, 12)
    seen.point_step, seen.row_step, seen.data = step, 7 * step, wide.reshape(-1).tolist()
    again = PointCloud.from_bytes(bytes(type(seen).__idl__.serialize(seen)))
    assert np.array_equal(again.points, points) and again.stamp == 3.25
    pose = Odometry(1.5, np.array([1.0, 2, 3]), np.array([0.8, 0.0, 0.6, 0.0]))
    seen = as_dds(pose, "Odometry")
    assert (seen.pose.pose.orientation.w, seen.pose.pose.orientation.y) == (0.8, 0.6)
    assert seen.pose.pose.position.z == 3.0
    for version in (False, True):
        raw = bytes(type(seen).__idl__.serialize(seen, use_version_2=version))
        again = Odometry.from_bytes(raw)
        assert np.allclose(again.quaternion, pose.quaternion), version
        assert np.allclose(again.position, pose.position)


@pytest.mark.parametrize("cls", [HeightMap, PointCloud, Odometry])
def test_cut_messages_are_told(cls):
    made = {
        HeightMap: HeightMap(0.0, "odom", 0.06, (0.0, 0.0), np.zeros((4, 4), np.float32)),
        PointCloud: PointCloud(0.0, "odom", np.zeros((4, 3), np.float32)),
        Odometry: Odometry(0.0, np.zeros(3), np.array([1.0, 0, 0, 0])),
    }
    raw = made[cls].to_bytes()
    for length in range(4, len(raw) - 4, 7):
        with pytest.raises(MessageError):
            cls.from_bytes(raw[:length])


def test_fixed_messages_refuse_other_sizes_and_encodings():
    with pytest.raises(MessageError, match="expected 1180 bytes"):
        LowState(b"\0\1\0\0")
    with pytest.raises(MessageError, match="encoding 0000"):
        LowState(bytes(LowState.SIZE))


def test_a_changed_byte_breaks_the_checksum():
    message = filled(LowState)
    message.seal()
    assert LowState(message.to_bytes()).intact()
    for place in (30, 81, 90, 600, 1170):
        raw = bytearray(message.to_bytes())
        raw[place] ^= 1
        assert not LowState(bytes(raw)).intact(), place


def test_an_idle_command_asks_nothing():
    command = LowCmd.idle()
    assert command.kp.tolist() == command.kd.tolist() == command.tau.tolist() == [0.0] * 20
    assert (command.first_mode, set(command.other_modes.tolist())) == (1, {1})
    assert command.head.tolist() == [0xFE, 0xEF] and command.level_flag == 0xFF
    assert dataclasses.is_dataclass(HeightMap)
