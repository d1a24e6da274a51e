"""What is installed from where: one namespace, ``go2_sevpo``, over the top-level folders.

The folders stay where a reader looks for them; nothing is installed under a generic top-level name.
Everything else about the package stands in pyproject.toml.
"""

from setuptools import find_packages, setup

FOLDERS = ("envs", "data_collection", "offline_training", "deploy", "assets")

package_dir = {"go2_sevpo": "go2_sevpo", **{f"go2_sevpo.{name}": name for name in FOLDERS}}
packages = [
    package
    for name, folder in package_dir.items()
    for package in (name, *(f"{name}.{inner}" for inner in find_packages(folder)))
]

setup(package_dir=package_dir, packages=packages)
