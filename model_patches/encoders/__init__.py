"""Encode prompts and images to hidden states, with transformers alone."""
