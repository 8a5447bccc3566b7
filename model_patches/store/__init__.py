"""What lives on disk: videos, run journals, int8 files and image indexes."""
