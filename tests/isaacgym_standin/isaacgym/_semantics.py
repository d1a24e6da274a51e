"""Which of PhysX's and Isaac Gym's documented rules hold: one object, changed by tests."""

import os
from contextlib import contextmanager


class Semantics:
    """Every attribute is one rule; the defaults are what is documented of the real thing."""

    def __init__(self):
        self.reset()

    def reset(self):
        """All rules as documented, but those that ISAACGYM_STANDIN names: ``setters=lose``."""
        self.siblings = "alphabetical"
        """Order of sibling links: ``alphabetical`` or ``reversed``."""
        self.joint_friction = "load"
        """``load``: the DOF's friction is a coefficient without unit, resistance is up to
        mu (|F| + |T|) of the load that the joint transmits
        (PxArticulationJointReducedCoordinate::setFrictionCoefficient). ``newton metres``: what it
        is often taken for."""
        self.root_velocity = "centre of mass"
        """Point of the linear velocity in root and body states (or ``link``: the link's origin)."""
        self.one_simulation = True
        """A second create_sim in one process ends it."""
        self.material_limit = 65536
        """Different materials that one process can make."""
        self.contact_dropouts = 0.2
        """Share of the physics steps in which a body's contact with a mesh is not reported, never
        two in sequence."""
        self.normal_only = True
        """Net contact forces hold no friction."""
        self.setters = "raise"
        """A state setter used twice between two simulates: ``raise``, or ``lose`` as the real one:
        the first call is lost."""
        self.pipeline = "as asked"
        """``gpu``: results reach tensors without fetch_results, but not the graphics."""
        self.limits_from_urdf = True
        """get_asset_dof_properties reports effort and velocity limits of the URDF."""
        self.drive_mode_from_options = True
        """DOFs take forces only in the drive mode for it, which comes from the options."""
        self.merge_fixed_joints = True
        """collapse_fixed_joints is honoured, and dont_collapse."""
        self.armature = "links"
        """AssetOptions.armature goes into the links' inertia, or into the ``joints``'."""
        for item in filter(None, os.environ.get("ISAACGYM_STANDIN", "").split(",")):
            name, _, text = item.partition("=")
            present = getattr(self, name)
            setattr(self, name, text if isinstance(present, str) else type(present)(float(text)))

    @contextmanager
    def changed(self, **values):
        """Within the block some rules are others."""
        before = {name: getattr(self, name) for name in values}
        self.__dict__.update(values)
        try:
            yield self
        finally:
            self.__dict__.update(before)


SEMANTICS = Semantics()


class GymError(RuntimeError):
    """A rule of the API was broken."""


class Process:
    """What one process has: at most one simulation, and its materials."""

    simulations = 0
    materials = set()

    @classmethod
    def fresh(cls):
        """As if a new process had begun."""
        cls.simulations, cls.materials = 0, set()

    @classmethod
    def open_simulation(cls):
        cls.simulations += 1
        if cls.simulations > 1 and SEMANTICS.one_simulation:
            raise GymError(
                "Foundation object exists already. Only one instance per process can be created."
            )

    @classmethod
    def use_material(cls, friction, restitution):
        cls.materials.add((float(friction), float(restitution)))
        if len(cls.materials) > SEMANTICS.material_limit:
            raise GymError(f"PhysX only supports {SEMANTICS.material_limit} materials")
