"""Training inside the host."""
