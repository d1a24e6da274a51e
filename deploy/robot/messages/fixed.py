"""Messages of one size, read and written in place.

On the wire a message is four bytes that name the encoding (plain CDR, little endian) and its
fields, each at a multiple of its own size. A class here is that block of bytes with named views on
it: reading one field costs no decoding of the rest.

Source: Unitree's published IDL (unitree_go); motor order FR FL RR RL, each hip, thigh, calf.
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional, Tuple, Union

import numpy as np

from go2_sevpo.deploy.robot.messages.crc import crc32

ENCODING = b"\x00\x01\x00\x00"
"""Plain CDR, little endian, no options."""
MOTORS = 20
"""Motor slots of the messages; a Go2 uses the first twelve."""


class MessageError(ValueError):
    """Bytes that are not the message they should be."""


class Field:
    """A view of a message: numbers of one type at ``offset`` bytes (the encoding not counted).

    A shape of ``()`` is one number. ``step`` is the distance in bytes of the elements of the first
    axis, for what repeats with every motor.
    """

    def __init__(
        self, offset: int, dtype: str, shape: Tuple[int, ...] = (), step: Optional[int] = None
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.offset, self.shape = offset + len(ENCODING), shape
        strides = [self.dtype.itemsize]
        for size in shape[:0:-1]:
            strides.insert(0, strides[0] * size)
        if step is not None:
            strides[0] = step
        self.strides = tuple(strides) if shape else ()

    def view(self, message: Fixed) -> np.ndarray:
        """The numbers in ``message``, not copied."""
        return np.ndarray(self.shape, self.dtype, message.buffer, self.offset, self.strides)

    def __get__(self, message: Optional[Fixed], owner: Any = None) -> Any:
        """An array that is a view, or a plain number."""
        if message is None:
            return self
        view = self.view(message)
        return view if self.shape else view.item()

    def __set__(self, message: Fixed, value: Any) -> None:
        """Write numbers into the message."""
        self.view(message)[...] = value


class Fixed:
    """A message of ``SIZE`` bytes, the encoding included.

    Args:
        data: what came over the bus; zeros if not given. Bytes are read only.

    Raises:
        MessageError: another length or encoding.
    """

    SIZE: ClassVar[int]

    def __init__(self, data: Union[bytes, bytearray, None] = None) -> None:
        if data is None:
            data = bytearray(self.SIZE)
            data[: len(ENCODING)] = ENCODING
        # What follows is padded to a multiple of four.
        if not self.SIZE <= len(data) < self.SIZE + 4 or bytes(data[:2]) != ENCODING[:2]:
            raise MessageError(
                f"{type(self).__name__} of {len(data)} bytes, encoding {bytes(data[:2]).hex()}; "
                f"expected {self.SIZE} bytes, encoding {ENCODING[:2].hex()}"
            )
        self.buffer = data

    def to_bytes(self) -> bytes:
        """The message as it goes over the bus."""
        return bytes(self.buffer)


class Checked(Fixed):
    """A message whose last field is a checksum."""

    crc: Any

    def structure(self) -> bytes:
        """The message as a C structure, without its checksum."""
        raise NotImplementedError

    def seal(self) -> None:
        """Write the checksum."""
        self.crc = crc32(self.structure())

    def intact(self) -> bool:
        """Whether the checksum is right."""
        return bool(self.crc == crc32(self.structure()))


class LowState(Checked):
    """What the robot senses (``unitree_go::msg::dds_::LowState_``), 500 times a second."""

    SIZE = 1180
    head = Field(0, "u1", (2,))
    level_flag = Field(2, "u1")
    frame_reserve = Field(3, "u1")
    serial_number = Field(4, "<u4", (2,))
    version = Field(12, "<u4", (2,))
    bandwidth = Field(20, "<u2")
    quaternion = Field(24, "<f4", (4,))
    """w x y z, base to world."""
    gyroscope = Field(40, "<f4", (3,))
    """rad/s, base axes."""
    accelerometer = Field(52, "<f4", (3,))
    """m/s^2, base axes, gravity's reaction included."""
    roll_pitch_yaw = Field(64, "<f4", (3,))
    imu_temperature = Field(76, "u1")
    q = Field(80, "<f4", (MOTORS,), 48)
    """rad"""
    dq = Field(84, "<f4", (MOTORS,), 48)
    """rad/s"""
    ddq = Field(88, "<f4", (MOTORS,), 48)
    tau_est = Field(92, "<f4", (MOTORS,), 48)
    """N m"""
    q_raw = Field(96, "<f4", (MOTORS,), 48)
    dq_raw = Field(100, "<f4", (MOTORS,), 48)
    ddq_raw = Field(104, "<f4", (MOTORS,), 48)
    temperature = Field(108, "u1", (MOTORS,), 48)
    """degrees Celsius"""
    lost = Field(112, "<u4", (MOTORS,), 48)
    """Messages the motor missed so far."""
    motor_reserve = Field(116, "<u4", (MOTORS, 2), 48)
    # The first motor's mode follows a single byte, the others' a whole motor.
    first_mode = Field(77, "u1")
    other_modes = Field(124, "u1", (MOTORS - 1,), 48)
    bms_version = Field(1036, "u1", (2,))
    bms_status = Field(1038, "u1")
    state_of_charge = Field(1039, "u1")
    """%"""
    bms_current = Field(1040, "<i4")
    bms_cycle = Field(1044, "<u2")
    bq_ntc = Field(1046, "u1", (2,))
    mcu_ntc = Field(1048, "u1", (2,))
    cell_voltage = Field(1050, "<u2", (15,))
    foot_force = Field(1080, "<i2", (4,))
    """Raw, uncalibrated; feet FR FL RR RL."""
    foot_force_estimate = Field(1088, "<i2", (4,))
    tick = Field(1096, "<u4")
    """ms"""
    wireless_remote = Field(1100, "u1", (40,))
    bit_flag = Field(1140, "u1")
    adc_reel = Field(1144, "<f4")
    temperature_ntc = Field(1148, "u1", (2,))
    power_voltage = Field(1152, "<f4")
    power_current = Field(1156, "<f4")
    fan_frequency = Field(1160, "<u2", (4,))
    reserve = Field(1168, "<u4")
    crc = Field(1172, "<u4")

    def structure(self) -> bytes:
        """See :class:`Checked`: the IMU and the first motor start on words of their own."""
        data = bytes(self.buffer)[len(ENCODING) :]
        return data[:24] + data[24:77] + b"\0\0\0" + data[77:78] + b"\0\0\0" + data[80:-4]


class LowCmd(Checked):
    """Targets of the motors (``unitree_go::msg::dds_::LowCmd_``).

    torque = tau + kp (q* - q) + kd (dq* - dq).
    """

    SIZE = 812
    head = Field(0, "u1", (2,))
    level_flag = Field(2, "u1")
    frame_reserve = Field(3, "u1")
    serial_number = Field(4, "<u4", (2,))
    version = Field(12, "<u4", (2,))
    bandwidth = Field(20, "<u2")
    first_mode = Field(22, "u1")
    other_modes = Field(56, "u1", (MOTORS - 1,), 36)
    q = Field(24, "<f4", (MOTORS,), 36)
    dq = Field(28, "<f4", (MOTORS,), 36)
    tau = Field(32, "<f4", (MOTORS,), 36)
    kp = Field(36, "<f4", (MOTORS,), 36)
    kd = Field(40, "<f4", (MOTORS,), 36)
    motor_reserve = Field(44, "<u4", (MOTORS, 3), 36)
    bms_off = Field(740, "u1")
    bms_reserve = Field(741, "u1", (3,))
    wireless_remote = Field(744, "u1", (40,))
    led = Field(784, "u1", (12,))
    fan = Field(796, "u1", (2,))
    gpio = Field(798, "u1")
    reserve = Field(800, "<u4")
    crc = Field(804, "<u4")

    def structure(self) -> bytes:
        """See :class:`Checked`: the first motor starts on a word of its own."""
        data = bytes(self.buffer)[len(ENCODING) :]
        return data[:22] + b"\0\0" + data[22:23] + b"\0\0\0" + data[24:-4]

    @classmethod
    def idle(cls) -> LowCmd:
        """A command as the robot expects it, that asks nothing of the motors."""
        command = cls()
        command.head, command.level_flag = (0xFE, 0xEF), 0xFF
        command.first_mode, command.other_modes = 1, 1  # the motors are to listen
        # Unitree's "no position, no velocity"; the gains are zero, too.
        command.q, command.dq = POSITION_STOP, VELOCITY_STOP
        return command


POSITION_STOP, VELOCITY_STOP = 2.146e9, 16000.0


class WirelessController(Fixed):
    """The remote: sticks in [-1, 1] and a mask of keys (``WirelessController_``)."""

    SIZE = 22
    lx = Field(0, "<f4")
    ly = Field(4, "<f4")
    rx = Field(8, "<f4")
    ry = Field(12, "<f4")
    keys = Field(16, "<u2")


class SportModeState(Fixed):
    """The robot's own estimate of its motion (``SportModeState_``), as far as it is used."""

    SIZE = 516
    seconds = Field(0, "<i4")
    nanoseconds = Field(4, "<u4")
    error_code = Field(8, "<u4")
    quaternion = Field(12, "<f4", (4,))
    mode = Field(65, "u1")
    position = Field(80, "<f4", (3,))
    """m, odometry frame"""
    velocity = Field(96, "<f4", (3,))
    """m/s, odometry frame"""
    yaw_speed = Field(108, "<f4")
