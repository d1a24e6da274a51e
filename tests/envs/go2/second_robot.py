"""A second implementation of the robot's side, from a contract alone: numpy, and no import of envs.

``docs/contract.md`` in code, as a reader would write it.
"""

import numpy as np


def turn(axis, angle):
    """Right-handed turn about one of the coordinate axes 0, 1, 2."""
    c, s = np.cos(angle), np.sin(angle)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    out = np.eye(3)
    out[a, a], out[a, b], out[b, a], out[b, b] = c, -s, s, c
    return out


def quaternion_matrix(q):
    w, x, y, z = q
    axis = np.array([x, y, z])
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return (w * w - axis @ axis) * np.eye(3) + 2 * np.outer(axis, axis) + 2 * w * cross


class SecondRobot:
    def __init__(self, contract):
        self.c, self.o = contract, contract["observation"]
        self.fields = self.o["fields"]

    def legs(self, q):
        """Feet (4, 3) and Jacobians (4, 3, 3), base frame, by turning link after link."""
        k = self.c["kinematics"]
        feet, jacobians = [], []
        for leg in range(4):
            q0, q1, q2 = q[3 * leg : 3 * leg + 3]
            hip = np.array(k["hip_origins"][leg])
            first = turn(0, q0)
            thigh = hip + first @ np.array(k["thigh_offsets"][leg])
            second = first @ turn(1, q1)
            knee = thigh + second @ np.array([0, 0, -k["thigh_length"]])
            foot = knee + second @ turn(1, q2) @ np.array(k["foot_in_calf"])
            lateral = first @ np.array([0.0, 1.0, 0.0])
            columns = [
                np.cross([1.0, 0.0, 0.0], foot - hip),
                np.cross(lateral, foot - thigh),
                np.cross(lateral, foot - knee),
            ]
            feet.append(foot)
            jacobians.append(np.stack(columns, axis=1))
        return np.array(feet), np.array(jacobians)

    def ground(self, grid, x, y, base_height):
        height = None
        i = int(np.floor((x - grid["origin"][0]) / grid["cell"]))
        j = int(np.floor((y - grid["origin"][1]) / grid["cell"]))
        if 0 <= i < len(grid["heights"]) and 0 <= j < len(grid["heights"][0]):
            height = grid["heights"][i][j]
        return base_height - self.c["map"]["unknown_drop"] if height is None else height

    def observe(self, record, grid, history):
        """The observation; ``history`` (a list) is emptied at the start and kept up to date."""
        c, o = self.c, self.o
        joints = c["joint_to_motor"]
        q, dq, tau = (np.array(record[k])[joints] for k in ("motor_q", "motor_dq", "motor_tau"))
        rotation = quaternion_matrix(record["quaternion"])
        gravity = -rotation[2]
        yaw_imu = np.arctan2(rotation[1, 0], rotation[0, 0])
        level = turn(2, -yaw_imu) @ rotation  # base to heading frame
        feet, jacobians = self.legs(q)
        contact = []
        for leg in range(4):
            force = -np.linalg.solve(jacobians[leg].T, tau[3 * leg : 3 * leg + 3])
            contact.append(float(force @ -gravity > c["contact"]["threshold"]))
        frame = np.concatenate(
            [
                np.array(record["gyro"]),
                gravity,
                q - c["default_joint_positions"],
                dq,
                record["last_action"],
                contact,
            ]
        )
        history[:] = [frame] * o["frames"] if record["first"] else [frame, *history[:-1]]
        position, yaw = np.array(record["position"]), record["yaw"]
        z = position[2]

        def under(point):
            x, y = position[:2] + turn(2, yaw)[:2, :2] @ point
            return self.ground(grid, x, y, z)

        way = np.array(record["goal"]) - np.array(record["start"])
        u = way / np.linalg.norm(way)
        n = np.array([-u[1], u[0]])
        w, aside = c["way"], []
        for a in w["ahead"]:
            for b in w["aside"]:
                x, y = position[:2] + a * u + b * n
                if z - self.ground(grid, x, y, z) < w["drop"]:
                    aside.append(b)
        lateral = np.mean(aside) if aside else 0.0
        values = []
        for target in (
            w["target"] * u + lateral * n,
            np.array(record["goal"]) - position[:2],
        ):
            x, y = turn(2, -yaw)[:2, :2] @ target
            d = max(np.hypot(x, y), 1e-3)
            values += [x / d, y / d, d / 2]
        scan = [z - o["scan_centre"] - under(np.array(p)) for p in o["scan_points"]]
        heights = []
        for foot in feet:
            in_heading = level @ foot
            for p in o["foot_points"]:
                ground = under(in_heading[:2] + np.array(p))
                heights.append(z + in_heading[2] - c["kinematics"]["foot_radius"] - ground)
        numbers = np.concatenate([*history, values, scan, heights])
        scale = np.concatenate([np.full(f["size"], f["scale"]) for f in self.fields])
        clip = np.concatenate([np.full(f["size"], f["clip"]) for f in self.fields])
        return np.clip(numbers * scale, -clip, clip)
