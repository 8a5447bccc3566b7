"""Tests that need neither ComfyUI nor a network."""
