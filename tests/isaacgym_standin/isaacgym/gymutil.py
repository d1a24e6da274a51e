"""Command line and simulation settings, as legged_gym's helpers use them."""

import argparse

from isaacgym import gymapi


def parse_device_str(text):
    """``cuda:1`` to ``("cuda", 1)``."""
    kind, _, number = text.partition(":")
    return kind, int(number or 0)


def parse_arguments(description="", headless=False, no_graphics=False, custom_parameters=()):
    """Isaac Gym's own options and ``custom_parameters``; the stand-in simulates on the CPU whatever
    is asked for.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sim_device", default="cuda:0")
    parser.add_argument("--pipeline", default="gpu")
    parser.add_argument("--graphics_device_id", type=int, default=0)
    parser.add_argument("--num_threads", type=int, default=0)
    parser.add_argument("--subscenes", type=int, default=0)
    parser.add_argument("--slices", type=int)
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--physx", action="store_true")
    engine.add_argument("--flex", action="store_true")
    for parameter in custom_parameters:
        options = dict(parameter)
        parser.add_argument(options.pop("name"), **options)
    args = parser.parse_args()
    args.sim_device_type, args.compute_device_id = "cpu", 0
    args.pipeline, args.use_gpu_pipeline, args.use_gpu = "cpu", False, False
    args.physics_engine = gymapi.SIM_FLEX if args.flex else gymapi.SIM_PHYSX
    args.device = "cpu"
    return args


def parse_sim_config(config, params):
    """Copy settings into SimParams; an unknown one raises there."""
    for key, value in config.items():
        if key == "physx":
            for name, x in value.items():
                setattr(params.physx, name, x)
        elif key == "gravity":
            params.gravity = gymapi.Vec3(*value)
        else:
            setattr(params, key, value)
