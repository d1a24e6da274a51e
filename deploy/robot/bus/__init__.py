"""How messages travel: within a process, or over DDS."""
