"""ACTS: the only room that crosses a machine boundary (SSH, host agent, broker)."""
