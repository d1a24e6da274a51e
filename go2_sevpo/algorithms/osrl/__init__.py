"""Rivals as the benchmark has them: OSRL's code, and CCAC's authors', which builds on it.

Formulas and constants are theirs, faults among them (each module says which); the programs are
ours. A test holds every loss of several steps against numbers that their code gave for the same
weights, batch and noise.

What differs: observations are normalised, as for all methods here, and several members can be
trained side by side. What is the same for all: time-outs end a backup of reward, rewards are scaled
by the preset (``reward_scale``).
"""
