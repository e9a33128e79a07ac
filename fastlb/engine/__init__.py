"""The seam: loads an engine, and says why that one was chosen."""
