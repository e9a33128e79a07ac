"""Mechanism: asks a backend, and says pass or fail and why."""

from fastlb.probe.http import probe_http
from fastlb.probe.result import ProbeResult
from fastlb.probe.tcp import probe_tcp

__all__ = ["ProbeResult", "probe_http", "probe_tcp"]
