"""Micro benchmarks of one part at a time, on each engine: `pytest benchmarks/micro`."""
