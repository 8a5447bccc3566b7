"""The paper's distillation experiment on the shapes world."""
