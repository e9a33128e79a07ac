"""Vocabulary: frozen values and Protocols. No input or output, no clock, stdlib only."""
