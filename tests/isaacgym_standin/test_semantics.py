"""Each documented rule of the real thing, and a user of the API who goes wrong by not knowing it.

What is expected follows from the public documentation (PhysX SDK, Isaac Gym's types, legged_gym's
comments) and from mechanics, worked out here; the robot is a box with one arm.
"""

import numpy as np
import pytest
import torch

from tests.isaacgym_standin.load import install, new_process

GRAVITY = 9.81
DT = 0.005
BASE_MASS, ARM_MASS, FOOT_MASS = 40.0, 1.0, 0.5
COM = (0.1, 0.0, 0.0)
ARM, MOUNT = 0.2, 0.3  # m from the joint to the arm's centre of mass; from the base to the joint
INERTIA = 0.01


def link(name, mass, com=(0, 0, 0), shape="", inertia=INERTIA):
    tensor = f'ixx="{inertia}" iyy="{inertia}" izz="{inertia}" ixy="0" ixz="0" iyz="0"'
    x, y, z = com
    return (
        f'<link name="{name}"><inertial><origin xyz="{x} {y} {z}"/><mass value="{mass}"/>'
        f"<inertia {tensor}/></inertial>{shape}</link>"
    )


def robot(friction=0.0, kept="true", base_mass=BASE_MASS, base_inertia=1.0):
    box = '<collision><geometry><box size="0.4 0.4 0.1"/></geometry></collision>'
    return f"""<robot name="armed">
{link("base", base_mass, COM, box, base_inertia)}
{link("arm", ARM_MASS, (ARM, 0, 0))}
{link("foot", FOOT_MASS)}
<joint name="turn" type="revolute"><origin xyz="0 0 {MOUNT}"/><parent link="base"/>
 <child link="arm"/><axis xyz="0 1 0"/>
 <limit lower="-3" upper="3" effort="7" velocity="9"/><dynamics friction="{friction}"/></joint>
<joint name="weld" type="fixed" dont_collapse="{kept}"><origin xyz="0.4 0 0"/>
 <parent link="arm"/><child link="foot"/></joint></robot>"""


def light():
    """The same with an arm of hardly any mass."""
    text = robot()
    for mass in (ARM_MASS, FOOT_MASS):
        text = text.replace(f'mass value="{mass}"', 'mass value="1e-3"')
    return text


FIXED = robot(base_mass=1e6, base_inertia=1e6)
"""One whose base does not move."""


class World:
    """One simulation with ``n`` robots ``height`` m over a mesh or a plane, and its tensors."""

    def __init__(self, tmp_path, api=None, ground="mesh", n=1, height=5.0, viewer=False, **options):
        self.api = api = api or install()
        from isaacgym import gymtorch

        self.torch = gymtorch
        urdf = options.pop("urdf", robot())
        gpu, dofs = options.pop("gpu", False), options.pop("dofs", {})
        payload = options.pop("payload", 0.0)
        (tmp_path / "robot.urdf").write_text(urdf)
        self.gym = api.acquire_gym()
        params = api.SimParams()
        params.dt, params.substeps, params.up_axis = DT, 1, api.UP_AXIS_Z
        params.gravity = api.Vec3(0, 0, options.pop("gravity", -GRAVITY))
        params.use_gpu_pipeline = params.physx.use_gpu = gpu
        self.sim = self.gym.create_sim(0, 0 if viewer else -1, api.SIM_PHYSX, params)
        if ground == "mesh":
            self.slab()
        else:
            plane = api.PlaneParams()
            plane.normal = api.Vec3(0, 0, 1)
            self.gym.add_ground(self.sim, plane)
        chosen = api.AssetOptions()
        chosen.default_dof_drive_mode = api.DOF_MODE_EFFORT
        chosen.collapse_fixed_joints, chosen.angular_damping = True, 0.0
        for name, value in options.items():
            setattr(chosen, name, value)
        self.asset = self.gym.load_asset(self.sim, str(tmp_path), "robot.urdf", chosen)
        self.envs = []
        for i in range(n):
            env = self.gym.create_env(self.sim, api.Vec3(), api.Vec3(), 1)
            pose = api.Transform(api.Vec3(0, 0, height))
            self.gym.create_actor(env, self.asset, pose, "robot", i, 1, 0)
            props = self.gym.get_asset_dof_properties(self.asset)
            for name, value in dofs.items():
                props[name] = value
            self.gym.set_actor_dof_properties(env, 0, props)
            bodies = self.gym.get_actor_rigid_body_properties(env, 0)
            bodies[0].mass += payload
            self.gym.set_actor_rigid_body_properties(env, 0, bodies, recomputeInertia=False)
            self.envs.append(env)
        self.gym.prepare_sim(self.sim)
        wrap, gym, sim = gymtorch.wrap_tensor, self.gym, self.sim
        self.root = wrap(gym.acquire_actor_root_state_tensor(sim))
        self.dof = wrap(gym.acquire_dof_state_tensor(sim)).view(n, -1, 2)
        self.contact = wrap(gym.acquire_net_contact_force_tensor(sim)).view(n, -1, 3)
        self.bodies = wrap(gym.acquire_rigid_body_state_tensor(sim)).view(n, -1, 13)
        self.refresh()

    def slab(self):
        from go2_sevpo.envs.go2.description.course import Box
        from go2_sevpo.envs.simulators.isaacgym.scene import box_mesh

        vertices, triangles = box_mesh([Box((0, 0, -0.5), (5.0, 5.0, 0.5))], np.zeros(3))
        params = self.api.TriangleMeshParams()
        params.nb_vertices, params.nb_triangles = len(vertices), len(triangles)
        self.gym.add_triangle_mesh(self.sim, vertices.flatten(), triangles.flatten(), params)

    def refresh(self):
        self.gym.refresh_actor_root_state_tensor(self.sim)
        self.gym.refresh_dof_state_tensor(self.sim)
        self.gym.refresh_net_contact_force_tensor(self.sim)

    def step(self, torque=0.0, steps=1):
        forces = torch.full((len(self.envs), 1), float(torque))
        for _ in range(steps):
            self.gym.set_dof_actuation_force_tensor(self.sim, self.torch.unwrap_tensor(forces))
            self.gym.simulate(self.sim)
            self.gym.fetch_results(self.sim, True)
            self.refresh()
        return self

    def write(self):
        ids = torch.arange(len(self.envs), dtype=torch.int32)
        unwrap = self.torch.unwrap_tensor
        self.gym.set_actor_root_state_tensor_indexed(
            self.sim, unwrap(self.root), unwrap(ids), len(ids)
        )


def test_joint_friction_is_a_coefficient_on_the_load(tmp_path):
    """Who gives 0.2 and means N m gets several times as much as soon as the joint carries."""
    torque = 1.0
    speeds = {}
    for rule in ("load", "newton metres"):
        api = install()
        api.SEMANTICS.joint_friction = rule
        # Without weight 0.5 lets 1 N m turn the arm; with it the joint carries 1.5 kg.
        fallen = World(tmp_path, api, urdf=robot(0.5), ground="plane", gravity=0.0)
        new_process()
        heavy = World(tmp_path, api, urdf=robot(0.5), ground="plane", height=0.05)
        heavy.step(0.0, 100)
        start = float(heavy.dof[0, 0, 1])
        speeds[rule] = (
            float(fallen.step(torque, 4).dof[0, 0, 1]),
            float(heavy.step(-torque, 4).dof[0, 0, 1]) - start,
        )
    # Resistance up to 0.5 (|F| + |T|) = 0.5 (14.7 N + 3.9 N m) = 9.3 N m, more than 1 + 3.9 N m.
    assert abs(speeds["load"][1]) < 0.01
    assert abs(speeds["newton metres"][0]) > 0.05 and abs(speeds["load"][0]) > 0.05


def test_the_load_is_force_and_torque_that_the_joint_transmits(tmp_path):
    world = World(tmp_path, ground="plane", height=0.05, dofs={"friction": 0.5})
    world.step(0.0, 200)
    force = (ARM_MASS + FOOT_MASS) * GRAVITY
    arm = float(world.dof[0, 0, 0])
    # The arm hangs from the joint, held by friction; torque about the joint from both masses.
    torque = GRAVITY * np.cos(arm) * (ARM_MASS * ARM + FOOT_MASS * 0.4)
    assert world.envs[0].load()[0] == pytest.approx(force + torque, rel=0.05)
    # It creeps (MuJoCo's friction is soft), where without friction it would fall in 0.2 s.
    assert abs(float(world.dof[0, 0, 1])) < 0.1 and abs(arm) < 0.3


def spin(world, rate=5.0):
    world.root[0, 7:13] = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, rate])
    world.write()
    return world.step()


def test_root_velocity_is_the_centre_of_mass(tmp_path):
    """Who reads it as the link's velocity sees a robot that stands while its origin circles."""
    origin, reported = {}, {}
    for rule in ("centre of mass", "link"):
        api = install()
        api.SEMANTICS.root_velocity = rule
        world = World(tmp_path, api, gravity=0.0, urdf=light())
        before = world.root[0, :3].clone()
        spin(world)
        origin[rule] = ((world.root[0, :3] - before) / DT)[:2]
        reported[rule] = world.root[0, 7:9].clone()
    # omega x c = 5 rad/s x 0.1 m: the origin moves at 0.5 m/s the other way.
    assert float(origin["centre of mass"].norm()) == pytest.approx(0.5, rel=0.1)
    assert float(reported["centre of mass"].norm()) < 0.06
    assert float((origin["link"] - reported["link"]).norm()) < 0.06


def test_body_states_are_of_the_same_kind(tmp_path):
    world = spin(World(tmp_path, gravity=0.0))
    world.gym.refresh_rigid_body_state_tensor(world.sim)
    assert torch.allclose(world.bodies[0, 0], world.root[0], atol=2e-3)


def test_one_simulation_a_process(tmp_path):
    world = World(tmp_path)
    world.gym.destroy_sim(world.sim)
    with pytest.raises(world.api.GymError, match="Foundation object exists already"):
        World(tmp_path, world.api)
    with world.api.SEMANTICS.changed(one_simulation=False):
        World(tmp_path, world.api)


def test_materials_run_out(tmp_path):
    """Who draws friction anew at every reset comes to the limit; buckets never do."""
    world = World(tmp_path)
    assert world.api.SEMANTICS.material_limit == 64 * 1024

    def give(value):
        shapes = world.gym.get_actor_rigid_shape_properties(world.envs[0], 0)
        for shape in shapes:
            shape.friction = value
        world.gym.set_actor_rigid_shape_properties(world.envs[0], 0, shapes)

    with world.api.SEMANTICS.changed(material_limit=100):
        for k in range(1000):
            give((k % 64) / 64)
        with pytest.raises(world.api.GymError, match="only supports 100 materials"):
            for k in range(1000):
                give(k / 1000)


def rest(world, steps=100):
    world.step(0.0, steps)
    found = []
    for _ in range(200):
        world.step()
        found.append(world.contact[0, 0].clone())
    return torch.stack(found)


def test_contact_reports_drop_out_on_meshes_never_twice_in_sequence(tmp_path):
    """Who takes a single report for the truth lifts a foot that stands; two in a row never lie."""
    mesh = rest(World(tmp_path, height=0.05, urdf=light()))[:, 2] > 1.0
    assert 0.05 < float((~mesh).float().mean()) < 0.3
    assert bool((mesh[1:] | mesh[:-1]).all())
    plane = rest(World(tmp_path, ground="plane", height=0.05, urdf=light()))[:, 2] > 1.0
    assert bool(plane.all())
    api = install()
    api.SEMANTICS.contact_dropouts = 0.0
    assert bool((rest(World(tmp_path, api, height=0.05, urdf=light()))[:, 2] > 1.0).all())


def test_contact_forces_are_normal_only(tmp_path):
    """Who looks for friction in them finds none while the ground brakes the robot."""
    sideways = {}
    for normal_only in (True, False):
        api = install()
        api.SEMANTICS.normal_only = normal_only
        world = World(tmp_path, api, ground="plane", height=0.05)
        world.step(0.0, 50)
        world.root[0, 7] = 1.0
        world.write()
        found = [float(world.step().contact[0, 0, :2].norm()) for _ in range(10)]
        sideways[normal_only] = max(found)
    assert sideways[True] < 0.01 and sideways[False] > 5.0


def test_gpu_pipeline_brings_results_but_not_to_the_graphics(tmp_path):
    world = World(tmp_path, viewer=True, gpu=True)
    viewer = world.gym.create_viewer(world.sim, world.api.CameraProperties())
    world.gym.simulate(world.sim)
    world.refresh()  # needs no fetch_results there
    with pytest.raises(world.api.GymError, match="step_graphics without fetch_results"):
        world.gym.step_graphics(world.sim)
    world.gym.fetch_results(world.sim, True)
    world.gym.step_graphics(world.sim)
    world.gym.draw_viewer(viewer, world.sim, True)
    api = install()
    world = World(tmp_path, api)
    world.gym.simulate(world.sim)
    with pytest.raises(api.GymError, match="fetch_results was not called after simulate"):
        world.refresh()


def test_tensors_are_stale_until_refreshed_and_writes_wait_for_simulate(tmp_path):
    world = World(tmp_path)
    before = world.root.clone()
    world.gym.simulate(world.sim)
    world.gym.fetch_results(world.sim, True)
    assert torch.equal(world.root, before)  # who reads now reads the past
    world.refresh()
    assert not torch.equal(world.root, before)
    world.root[0, 2] = 50.0
    world.write()
    world.refresh()
    assert float(world.root[0, 2]) < 6.0  # who refreshes now throws the view of it away
    assert float(world.step().root[0, 2]) > 49.0


def test_a_setter_twice_in_a_step_loses_the_first(tmp_path):
    world = World(tmp_path, n=2)
    unwrap = world.torch.unwrap_tensor

    def put(i, height):
        world.root[i, 2] = height
        ids = torch.tensor([i], dtype=torch.int32)
        world.gym.set_actor_root_state_tensor_indexed(world.sim, unwrap(world.root), unwrap(ids), 1)

    put(0, 30.0)
    with pytest.raises(world.api.GymError, match="the first call would be lost"):
        put(1, 40.0)
    world.step()
    with world.api.SEMANTICS.changed(setters="lose"):
        put(0, 60.0)
        put(1, 70.0)
        world.step()
    assert float(world.root[0, 2]) < 40.0 and float(world.root[1, 2]) > 69.0


def test_limits_are_reported_as_the_urdf_has_them(tmp_path):
    """Who relies on infinite ones has torques and speeds cut."""
    world = World(tmp_path, gravity=0.0)
    props = world.gym.get_asset_dof_properties(world.asset)
    assert (props["effort"][0], props["velocity"][0]) == (7.0, 9.0)
    assert (props["lower"][0], props["upper"][0], bool(props["hasLimits"][0])) == (-3, 3, True)
    slow = float(world.step(7.0, 2).dof[0, 0, 1])
    with world.api.SEMANTICS.changed(one_simulation=False):
        other = World(tmp_path, world.api, gravity=0.0)
        assert float(other.step(70.0, 2).dof[0, 0, 1]) == pytest.approx(slow)
        other.step(70.0, 30)
        assert abs(float(other.dof[0, 0, 1])) <= 9.0 + 1e-4
    with world.api.SEMANTICS.changed(limits_from_urdf=False):
        assert world.gym.get_asset_dof_properties(world.asset)["effort"][0] > 1e30


def test_drive_mode_comes_from_the_options(tmp_path):
    """Who forgets it has motors that do nothing."""
    world = World(tmp_path, gravity=0.0, default_dof_drive_mode=0)
    assert float(world.step(5.0, 5).dof[0, 0, 1]) == 0.0
    api = install()
    world = World(tmp_path, api, gravity=0.0)
    assert abs(float(world.step(5.0, 5).dof[0, 0, 1])) > 0.1
    api = install()
    api.SEMANTICS.drive_mode_from_options = False
    world = World(tmp_path, api, gravity=0.0, default_dof_drive_mode=0)
    assert abs(float(world.step(5.0, 5).dof[0, 0, 1])) > 0.1
    api = install()
    with pytest.raises(api.GymError, match="a drive is active too"):
        World(tmp_path, api, default_dof_drive_mode=api.DOF_MODE_POS)


def test_fixed_joints_merge_unless_marked(tmp_path):
    """Who does not mark the feet finds none."""
    kept = World(tmp_path)
    assert kept.gym.get_asset_rigid_body_names(kept.asset) == ["base", "arm", "foot"]
    api = install()
    merged = World(tmp_path, api, urdf=robot(kept="false"))
    assert merged.gym.get_asset_rigid_body_names(merged.asset) == ["base", "arm"]
    assert merged.gym.find_actor_rigid_body_handle(merged.envs[0], 0, "foot") == -1
    bodies = merged.gym.get_actor_rigid_body_properties(merged.envs[0], 0)
    assert bodies[1].mass == ARM_MASS + FOOT_MASS
    # 1 kg at 0.2 m and 0.5 kg at 0.4 m
    assert bodies[1].com.x == pytest.approx((1.0 * 0.2 + 0.5 * 0.4) / 1.5)
    swing = float(kept.step(5.0, 3).dof[0, 0, 1])
    assert float(merged.step(5.0, 3).dof[0, 0, 1]) == pytest.approx(swing, rel=1e-4)
    api = install()
    apart = World(tmp_path, api, urdf=robot(kept="false"), collapse_fixed_joints=False)
    assert len(apart.gym.get_asset_rigid_body_names(apart.asset)) == 3
    api = install()
    api.SEMANTICS.merge_fixed_joints = False
    apart = World(tmp_path, api, urdf=robot(kept="false"))
    assert len(apart.gym.get_asset_rigid_body_names(apart.asset)) == 3


def test_armature_of_the_options_goes_into_the_links(tmp_path):
    """Who sets it there and on the DOFs has it twice."""
    speeds = {}
    for name, options in {
        "none": {},
        "dofs": {"dofs": {"armature": 0.1}},
        "options": {"armature": 0.1},
        "both": {"armature": 0.1, "dofs": {"armature": 0.1}},
    }.items():
        world = World(tmp_path, install(), gravity=0.0, urdf=FIXED, **options)
        speeds[name] = float(world.step(5.0, 1).dof[0, 0, 1])
    inertia = {name: 5.0 * DT / v for name, v in speeds.items()}  # about the joint, kg m^2
    # Two links hang on the joint, and the options' armature is added to either.
    plain = 2 * INERTIA + ARM_MASS * ARM**2 + FOOT_MASS * 0.4**2
    assert inertia["none"] == pytest.approx(plain, rel=0.02)
    assert inertia["dofs"] == pytest.approx(plain + 0.1, rel=0.02)
    assert inertia["options"] == pytest.approx(plain + 0.2, rel=0.02)
    assert inertia["both"] == pytest.approx(plain + 0.3, rel=0.02)
    api = install()
    api.SEMANTICS.armature = "joints"
    world = World(tmp_path, api, gravity=0.0, armature=0.1)
    assert world.gym.get_asset_dof_properties(world.asset)["armature"][0] == pytest.approx(0.1)
    api = install()
    world = World(tmp_path, api, armature=0.1, use_physx_armature=True)
    assert world.gym.get_asset_dof_properties(world.asset)["armature"][0] == pytest.approx(0.1)


def test_the_mass_that_the_api_reports_falls_on_the_ground(tmp_path):
    api = install()
    api.SEMANTICS.contact_dropouts = 0.0
    world = World(tmp_path, api, height=0.05, payload=2.0)
    found = rest(world, 300).mean(0)
    total = BASE_MASS + ARM_MASS + FOOT_MASS + 2.0
    assert float(found[2]) == pytest.approx(total * GRAVITY, rel=0.2)
    with pytest.raises(api.GymError, match="masses cannot be changed"):
        world.gym.set_actor_rigid_body_properties(world.envs[0], 0, [], recomputeInertia=True)


def test_misspelt_and_switched_by_the_environment(monkeypatch):
    api = install()
    with pytest.raises(AttributeError, match="AssetOptions has no attribute armatur"):
        api.AssetOptions().armatur = 0.1
    monkeypatch.setenv("ISAACGYM_STANDIN", "setters=lose,contact_dropouts=0.5,one_simulation=0")
    api.SEMANTICS.reset()
    found = api.SEMANTICS
    assert (found.setters, found.contact_dropouts, found.one_simulation) == ("lose", 0.5, False)
    monkeypatch.delenv("ISAACGYM_STANDIN")
    api.SEMANTICS.reset()
    assert found.one_simulation and found.setters == "raise"
