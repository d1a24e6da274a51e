"""Terrain generators of Isaac Gym: none here, our courses bring their own meshes."""
