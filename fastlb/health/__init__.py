"""Policy: who is up. Pure functions over state and observation."""
