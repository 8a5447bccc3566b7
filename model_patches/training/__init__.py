"""Flow matching, CFG distillation and DMD2 over diffusers models."""
