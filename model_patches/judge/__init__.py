"""Judge a clip: measures of frames alone, VBench's measures with a model, and distances between sets of clips."""
