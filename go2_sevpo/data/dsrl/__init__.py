"""DSRL's file layout (Liu et al. 2024): single HDF5 files without a table of episodes."""
