"""The real frontend in headless Chromium."""
