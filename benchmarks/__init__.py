"""fastlb beside HAProxy, nginx and Envoy: `python -m benchmarks`. How and why is in README.md."""
