"""Tests, benchmarks and the support code they share."""
