"""DiTs inside the host."""
