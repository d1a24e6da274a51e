"""Attacks on what is written and read: ``python -m tests.chaos`` (``make chaos``)."""
