"""Code that several tests share: scripted backends, raw clients, running engines."""
