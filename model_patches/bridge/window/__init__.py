"""The window loop inside the host."""
