"""Judge a clip: measures of the frames alone, VBench's measures with models, and distances between sets of clips."""
