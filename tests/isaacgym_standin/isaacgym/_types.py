"""Parameters and properties as the API has them; a misspelt attribute raises."""

import numpy as np

SIM_PHYSX, SIM_FLEX = 1, 0
UP_AXIS_Y, UP_AXIS_Z = 0, 1
DOF_MODE_NONE, DOF_MODE_POS, DOF_MODE_VEL, DOF_MODE_EFFORT = 0, 1, 2, 3
DOMAIN_ENV, DOMAIN_ACTOR, DOMAIN_SIM = 0, 1, 2
CC_NEVER, CC_LAST_SUBSTEP, CC_ALL_SUBSTEPS = 0, 1, 2
KEY_ESCAPE, KEY_V = "escape", "v"


class SimType:
    pass


class Vec3:
    def __init__(self, x=0.0, y=0.0, z=0.0):
        self.x, self.y, self.z = float(x), float(y), float(z)

    def array(self):
        return np.array([self.x, self.y, self.z])


class Quat:
    def __init__(self, x=0.0, y=0.0, z=0.0, w=1.0):
        self.x, self.y, self.z, self.w = float(x), float(y), float(z), float(w)


class Transform:
    def __init__(self, p=None, r=None):
        self.p, self.r = p or Vec3(), r or Quat()


class Fixed:
    """An object whose attributes are known: a misspelt one raises instead of being ignored."""

    fields = ()

    def __init__(self):
        for name, value in self.fields:
            object.__setattr__(self, name, value() if callable(value) else value)

    def __setattr__(self, name, value):
        if name not in dict(self.fields):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        object.__setattr__(self, name, value)

    def copy(self):
        other = type(self)()
        for name, _ in self.fields:
            setattr(other, name, getattr(self, name))
        return other


class PhysXParams(Fixed):
    fields = (
        ("use_gpu", False),
        ("num_threads", 0),
        ("solver_type", 1),
        ("num_position_iterations", 4),
        ("num_velocity_iterations", 1),
        ("contact_offset", 0.02),
        ("rest_offset", 0.001),
        ("bounce_threshold_velocity", 0.2),
        ("max_depenetration_velocity", 100.0),
        ("max_gpu_contact_pairs", 2**20),
        ("default_buffer_size_multiplier", 2.0),
        ("contact_collection", CC_ALL_SUBSTEPS),
        ("num_subscenes", 0),
    )


class SimParams(Fixed):
    fields = (
        ("dt", 1 / 60),
        ("substeps", 2),
        ("up_axis", UP_AXIS_Y),
        ("gravity", lambda: Vec3(0, -9.8, 0)),
        ("use_gpu_pipeline", False),
        ("physx", PhysXParams),
        ("num_client_threads", 0),
    )


_MATERIAL = (
    ("static_friction", 1.0),
    ("dynamic_friction", 1.0),
    ("restitution", 0.0),
    ("segmentation_id", 0),
)


class TriangleMeshParams(Fixed):
    fields = (("nb_vertices", 0), ("nb_triangles", 0), ("transform", Transform), *_MATERIAL)


class HeightFieldParams(Fixed):
    fields = (
        *(("nbRows", 0), ("nbColumns", 0), ("transform", Transform)),
        *(("row_scale", 1.0), ("column_scale", 1.0), ("vertical_scale", 1.0)),
        *_MATERIAL,
    )


class PlaneParams(Fixed):
    fields = (("normal", lambda: Vec3(0, 1, 0)), ("distance", 0.0), *_MATERIAL)


class AssetOptions(Fixed):
    fields = (
        ("default_dof_drive_mode", DOF_MODE_NONE),
        ("collapse_fixed_joints", False),
        ("replace_cylinder_with_capsule", False),
        ("flip_visual_attachments", True),
        ("fix_base_link", False),
        ("density", 1000.0),
        ("angular_damping", 0.5),
        ("linear_damping", 0.0),
        ("max_angular_velocity", 64.0),
        ("max_linear_velocity", 1000.0),
        ("armature", 0.0),
        ("use_physx_armature", False),
        ("thickness", 0.02),
        ("disable_gravity", False),
    )


class CameraProperties(Fixed):
    fields = (("width", 1600), ("height", 900))


class RigidShapeProperties(Fixed):
    fields = (
        ("friction", 1.0),
        ("restitution", 0.0),
        ("rolling_friction", 0.0),
        ("torsion_friction", 0.0),
    )


class RigidBodyProperties(Fixed):
    fields = (("mass", 0.0), ("com", Vec3))


DOF_PROPERTIES = np.dtype(
    [
        ("hasLimits", "?"),
        ("lower", "f4"),
        ("upper", "f4"),
        ("driveMode", "i4"),
        ("velocity", "f4"),
        ("effort", "f4"),
        ("stiffness", "f4"),
        ("damping", "f4"),
        ("friction", "f4"),
        ("armature", "f4"),
    ]
)
