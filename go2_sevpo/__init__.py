"""Offline safe reinforcement learning for the Unitree Go2."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("go2-sevpo")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "unknown"
