"""URDF to MJCF: links depth first, siblings sorted, fixed joints merged unless marked
``dont_collapse``.
"""

import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np
from isaacgym._semantics import SEMANTICS


def _floats(text):
    return np.array([float(x) for x in text.split()])


def _text(values):
    return " ".join(f"{v:.9g}" for v in values)


class Frame:
    """A place and a rotation (3, 3) in the parent's frame."""

    def __init__(self, position=(0.0, 0.0, 0.0), rotation=None):
        self.position = np.array(position, dtype=float)
        self.rotation = np.eye(3) if rotation is None else rotation

    @staticmethod
    def read(element):
        """The ``origin`` of a URDF element, the identity where there is none."""
        origin = None if element is None else element.find("origin")
        if origin is None:
            return Frame()
        (cr, cp, cy), (sr, sp, sy) = (
            f(_floats(origin.get("rpy", "0 0 0"))) for f in (np.cos, np.sin)
        )
        rotation = np.array(
            [
                [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
                [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
                [-sp, cp * sr, cp * cr],
            ]
        )
        return Frame(_floats(origin.get("xyz", "0 0 0")), rotation)

    def __matmul__(self, other):
        return Frame(self.position + self.rotation @ other.position, self.rotation @ other.rotation)

    def xml(self):
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self.rotation.flatten())
        return f'pos="{_text(self.position)}" quat="{_text(quaternion)}"'


class Link:
    """Mass, centre of mass (3,), inertia about it (3, 3), shapes and joints below, link frame."""

    def __init__(self, element):
        self.name = element.get("name")
        self.mass, self.com, self.inertia = 0.0, np.zeros(3), np.zeros((3, 3))
        inertial = element.find("inertial")
        if inertial is not None:
            frame = Frame.read(inertial)
            i = inertial.find("inertia")
            xx, yy, zz, xy, xz, yz = (
                float(i.get(k)) for k in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
            )
            tensor = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            self.mass, self.com = float(inertial.find("mass").get("value")), frame.position
            self.inertia = frame.rotation @ tensor @ frame.rotation.T
        self.shapes = [
            (Frame.read(shape), list(shape.find("geometry"))[0])
            for shape in element.findall("collision")
        ]
        self.below = []  # (frame of the joint, joint, link)

    def merge(self, frame, other):
        """Weld ``other`` on at ``frame``: masses, shapes and whatever hangs on it."""
        mass, there = self.mass + other.mass, frame.position + frame.rotation @ other.com
        if mass > 0:
            com = (self.mass * self.com + other.mass * there) / mass
            inertia = np.zeros((3, 3))
            turned = frame.rotation @ other.inertia @ frame.rotation.T
            for m, c, tensor in ((self.mass, self.com, self.inertia), (other.mass, there, turned)):
                d = c - com
                inertia += tensor + m * (d @ d * np.eye(3) - np.outer(d, d))
            self.mass, self.com, self.inertia = mass, com, inertia
        self.shapes += [(frame @ f, g) for f, g in other.shapes]
        self.below += [(frame @ f, joint, link) for f, joint, link in other.below]


class Robot:
    """Links and joints of a URDF in the order in which the simulation numbers them."""

    def __init__(self, path, options):
        root = ElementTree.parse(path).getroot()
        links = {e.get("name"): Link(e) for e in root.findall("link")}
        found = set()
        for joint in root.findall("joint"):
            child = joint.find("child").get("link")
            links[joint.find("parent").get("link")].below.append(
                (Frame.read(joint), joint, links[child])
            )
            found.add(child)
        (self.root,) = [link for name, link in links.items() if name not in found]
        self.options = options
        if options.collapse_fixed_joints and SEMANTICS.merge_fixed_joints:
            self._collapse(self.root)
        self.links, self.dofs, self._joints = [], [], []
        self._number(self.root)
        self.bodies = [link.name for link in self.links]
        self.coms = [link.com for link in self.links]
        self.masses = [max(link.mass, 1e-4) for link in self.links]
        self.shapes = sum(len(link.shapes) for link in self.links)

    def _collapse(self, link):
        for _, _, child in link.below:
            self._collapse(child)
        kept = []
        below, link.below = link.below, kept
        for frame, joint, child in below:
            if joint.get("type") == "fixed" and joint.get("dont_collapse") != "true":
                link.merge(frame, child)
            else:
                kept.append((frame, joint, child))

    def _number(self, link):
        self.links.append(link)
        link.below.sort(key=lambda e: e[2].name, reverse=SEMANTICS.siblings == "reversed")
        for _, joint, child in link.below:
            if joint.get("type") in ("revolute", "continuous", "prismatic"):
                self.dofs.append(joint.get("name"))
                self._joints.append(joint)
            elif joint.get("type") != "fixed":
                raise NotImplementedError(f"a joint of type {joint.get('type')}")
            self._number(child)

    def dof_numbers(self, tag, name, default):
        """An attribute of all joints' ``limit`` or ``dynamics``."""
        elements = [joint.find(tag) for joint in self._joints]
        return np.array([default if e is None else float(e.get(name, default)) for e in elements])

    @property
    def limited(self):
        """Which joints have a range."""
        return np.array(
            [
                j.get("type") != "continuous" and (j.find("limit").get("lower") is not None)
                for j in self._joints
            ]
        )

    def mjcf_body(self, link=None, frame=None, joint=None, depth=0):
        """The tree of bodies."""
        link, pad = link or self.root, "  " * depth
        place = "" if frame is None else frame.xml()
        out = [f'{pad}<body name="{link.name}" {place}>']
        if joint is None:
            out.append(f'{pad} <freejoint name="root"/>')
        elif joint.get("type") != "fixed":
            axis = joint.find("axis")
            limit = joint.find("limit")
            span = ""
            if self.limited[self._joints.index(joint)]:
                span = f'range="{limit.get("lower")} {limit.get("upper")}"'
            kind = "slide" if joint.get("type") == "prismatic" else "hinge"
            out.append(
                f'{pad} <joint name="{joint.get("name")}" type="{kind}" {span} '
                f'axis="{"1 0 0" if axis is None else axis.get("xyz")}"/>'
            )
        mass, tensor = max(link.mass, 1e-4), link.inertia.copy()
        if SEMANTICS.armature == "links" and not self.options.use_physx_armature:
            tensor += self.options.armature * np.eye(3)
        tensor += 1e-7 * np.eye(3) * (link.mass == 0)
        values = [tensor[k] for k in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
        out.append(
            f'{pad} <inertial pos="{_text(link.com)}" mass="{mass:.9g}" '
            f'fullinertia="{_text(values)}"/>'
        )
        out += [f"{pad} {self._geom(f, solid)}" for f, solid in link.shapes]
        for f, j, child in link.below:
            out += self.mjcf_body(child, f, j, depth + 1)
        return [*out, f"{pad}</body>"]

    def _geom(self, frame, solid):
        if solid.tag == "box":
            kind, size = "box", _floats(solid.get("size")) / 2
        elif solid.tag == "sphere":
            kind, size = "sphere", [float(solid.get("radius"))]
        elif solid.tag == "cylinder":
            kind = "capsule" if self.options.replace_cylinder_with_capsule else "cylinder"
            size = [float(solid.get("radius")), float(solid.get("length")) / 2]
        else:
            raise NotImplementedError(f"the stand-in has no {solid.tag} shapes for robots")
        return f'<geom class="robot" type="{kind}" size="{_text(size)}" {frame.xml()}/>'
