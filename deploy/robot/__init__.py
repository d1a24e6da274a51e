"""From an exported policy to a Go2: messages, a map, a state machine, and a virtual robot."""
