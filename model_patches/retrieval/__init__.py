"""The picture index and its search."""
