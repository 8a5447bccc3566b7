"""Train the embedded default model, one resumable stage at a time; see ``__main__`` for the stages."""
