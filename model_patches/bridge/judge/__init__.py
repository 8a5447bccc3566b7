"""Judge clips in the host: find the models, stream the frames, write the results."""
