"""Prompt and image to hidden states, with transformers only."""
