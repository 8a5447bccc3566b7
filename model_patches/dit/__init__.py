"""Checkpoint layouts of the DiT: keys, recognition, weights files, input channels."""
