"""The native engine: Cython, worker threads without the GIL, Linux only."""
