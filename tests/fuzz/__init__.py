"""Differential fuzzing of the parsers: both engines against llhttp and h11."""
