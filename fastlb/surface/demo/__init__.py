"""`fastlb demo`: backends, balancer and traffic in one process, to look at and to play with."""

from fastlb.surface.demo.run import run_demo

__all__ = ["run_demo"]
