"""Policy: who is picked. Pure functions that turn backends and their health into a plan."""
