"""Int8 models inside the host."""
