"""Mechanism: asks a backend, and says pass or fail and why."""
