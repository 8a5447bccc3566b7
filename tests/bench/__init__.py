"""One module a benchmark; run by dev.py bench NAME."""
