"""ComfyUI node classes: schema, wiring and messages; no tensor algebra."""
