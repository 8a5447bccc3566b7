"""A long video in windows: plan, journal, store, measures, palette, report."""
