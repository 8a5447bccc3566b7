"""The picture index inside the host."""
