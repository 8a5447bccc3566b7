"""The only package besides nodes that imports the host."""
