"""A virtual Go2 on the robot's topics."""
