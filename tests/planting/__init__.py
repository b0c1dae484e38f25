"""Faults planted in the source, and the tests that must notice them: ``python -m tests.planting``."""
