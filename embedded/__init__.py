"""The small trained default: its synthetic world, training script and weights."""
