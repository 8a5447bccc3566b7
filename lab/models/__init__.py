"""Train the embedded models, one resumable stage at a time; see ``lab/__main__.py`` for the stages."""
