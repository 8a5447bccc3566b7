"""The real workflows in a real ComfyUI server."""
