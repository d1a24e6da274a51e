"""URDF to MJCF: bodies depth first, siblings sorted, fixed joints merged unless marked
``dont_collapse``.
"""

import xml.etree.ElementTree as ElementTree

import numpy as np


def _floats(text):
    return [float(x) for x in text.split()]


def _rpy_matrix(rpy):
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def _quaternion(rpy):
    import mujoco

    q = np.zeros(4)
    mujoco.mju_mat2Quat(q, _rpy_matrix(rpy).flatten())
    return q


def _text(values):
    return " ".join(f"{v:.9g}" for v in values)


class Robot:
    """Links and joints of a URDF in the order in which the simulation numbers them."""

    def __init__(self, path, options, siblings):
        root = ElementTree.parse(path).getroot()
        self.links = {link.get("name"): link for link in root.findall("link")}
        self.children = {name: [] for name in self.links}
        found = set()
        for joint in root.findall("joint"):
            parent, child = joint.find("parent").get("link"), joint.find("child").get("link")
            if (
                joint.get("type") == "fixed"
                and options.collapse_fixed_joints
                and joint.get("dont_collapse") != "true"
            ):
                raise NotImplementedError(
                    f"the stand-in cannot merge the fixed joint {joint.get('name')}"
                )
            self.children[parent].append((child, joint))
            found.add(child)
        (self.root,) = [name for name in self.links if name not in found]
        for entries in self.children.values():
            entries.sort(key=lambda e: e[0], reverse=siblings == "reversed")
        self.armature, self.capsules = options.armature, options.replace_cylinder_with_capsule
        self.bodies, self.dofs, self.limits = [], [], []
        self._xml = []
        self._body(self.root, None, 0)

    def _body(self, name, joint, depth):
        self.bodies.append(name)
        pad, link = "  " * depth, self.links[name]
        origin = "" if joint is None else f' pos="{joint.find("origin").get("xyz")}"'
        self._xml.append(f'{pad}<body name="{name}"{origin}>')
        if joint is None:
            self._xml.append(f'{pad}  <freejoint name="root"/>')
        elif joint.get("type") == "revolute":
            limit = joint.find("limit")
            self.dofs.append(joint.get("name"))
            self.limits.append((float(limit.get("lower")), float(limit.get("upper"))))
            self._xml.append(
                f'{pad}  <joint name="{joint.get("name")}" axis="{joint.find("axis").get("xyz")}" '
                f'range="{_text(self.limits[-1])}" armature="{self.armature}"/>'
            )
        inertial = link.find("inertial")
        i = inertial.find("inertia")
        values = [float(i.get(k)) for k in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")]
        self._xml.append(
            f'{pad}  <inertial pos="{inertial.find("origin").get("xyz")}" '
            f'mass="{inertial.find("mass").get("value")}" '
            f'fullinertia="{_text(values)}"/>'
        )
        for shape in link.findall("collision"):
            self._xml.append(pad + "  " + self._geom(shape))
        for child, below in self.children[name]:
            self._body(child, below, depth + 1)
        self._xml.append(f"{pad}</body>")

    def _geom(self, shape):
        origin, solid = shape.find("origin"), list(shape.find("geometry"))[0]
        pos = origin.get("xyz", "0 0 0")
        quat = _text(_quaternion(_floats(origin.get("rpy", "0 0 0"))))
        if solid.tag == "box":
            kind, size = "box", [x / 2 for x in _floats(solid.get("size"))]
        elif solid.tag == "sphere":
            kind, size = "sphere", [float(solid.get("radius"))]
        else:
            kind = "capsule" if self.capsules else "cylinder"
            size = [float(solid.get("radius")), float(solid.get("length")) / 2]
        return f'<geom class="robot" type="{kind}" size="{_text(size)}" pos="{pos}" quat="{quat}"/>'

    def mjcf(self, dt, gravity, meshes, self_collision):
        """The whole scene; ``meshes`` is a list of (name, convex vertices (V, 3))."""
        assets = "".join(f'<mesh name="{n}" vertex="{_text(v.flatten())}"/>' for n, v in meshes)
        ground = "".join(
            f'<geom name="{n}" class="ground" type="mesh" mesh="{n}"/>' for n, _ in meshes
        )
        bits = 'contype="2" conaffinity="3"' if self_collision else 'contype="0" conaffinity="1"'
        return f"""<mujoco><compiler angle="radian" autolimits="true"/>
<option timestep="{dt}" gravity="{_text(gravity)}" integrator="implicitfast" cone="pyramidal"/>
<default><default class="robot"><geom {bits} condim="3" solref="0.01 1"/></default>
<default class="ground"><geom contype="1" conaffinity="0" priority="1" solref="0.01 1"/></default>
</default>
<asset>{assets}</asset><worldbody>{ground}{chr(10).join(self._xml)}</worldbody></mujoco>"""
