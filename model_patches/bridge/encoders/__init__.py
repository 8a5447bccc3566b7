"""Prompt and picture encoders inside the host."""
