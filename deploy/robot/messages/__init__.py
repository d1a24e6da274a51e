"""Unitree's messages as bytes on the wire and as DDS types."""
