"""Files on disk: atomic writes, locks, pictures, video and sound."""
