"""fastlb: a load balancer for Python teams.

The names below are the public ones. Each is imported when it is first used, so that
`fastlb --version` and the parts of fastlb do not pay for what they do not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastlb.control.supervisor import Supervisor, run, serve
    from fastlb.model.address import Address, parse_backend, parse_listen
    from fastlb.model.config import (
        AllDown,
        BackendConfig,
        Config,
        EjectConfig,
        EjectErrors,
        EngineChoice,
        ListenerConfig,
        LogConfig,
        LogFormat,
        Mode,
        OnDown,
        Policy,
        ProbeConfig,
        StatusRange,
        TimeoutConfig,
    )
    from fastlb.model.errors import (
        ConfigError,
        EngineUnavailableError,
        FastlbError,
        NoBackendError,
        StartError,
    )
    from fastlb.model.limits import LimitConfig
    from fastlb.model.proxied import ProxyProtocol, TrustedProxies, parse_trusted_proxies

__version__ = "0.1.0"

__all__ = [
    "Address",
    "AllDown",
    "BackendConfig",
    "Config",
    "ConfigError",
    "EjectConfig",
    "EjectErrors",
    "EngineChoice",
    "EngineUnavailableError",
    "FastlbError",
    "LimitConfig",
    "ListenerConfig",
    "LogConfig",
    "LogFormat",
    "Mode",
    "NoBackendError",
    "OnDown",
    "Policy",
    "ProbeConfig",
    "ProxyProtocol",
    "StartError",
    "StatusRange",
    "Supervisor",
    "TimeoutConfig",
    "TrustedProxies",
    "__version__",
    "parse_backend",
    "parse_listen",
    "parse_trusted_proxies",
    "run",
    "serve",
]

_ROOM_OF = {
    **dict.fromkeys(("Supervisor", "run", "serve"), "fastlb.control.supervisor"),
    **dict.fromkeys(("Address", "parse_backend", "parse_listen"), "fastlb.model.address"),
    "LimitConfig": "fastlb.model.limits",
    **dict.fromkeys(("ProxyProtocol", "TrustedProxies", "parse_trusted_proxies"), "fastlb.model.proxied"),
    **dict.fromkeys(
        ("ConfigError", "EngineUnavailableError", "FastlbError", "NoBackendError", "StartError"),
        "fastlb.model.errors",
    ),
    **dict.fromkeys(
        (
            "AllDown",
            "BackendConfig",
            "Config",
            "EjectConfig",
            "EjectErrors",
            "EngineChoice",
            "ListenerConfig",
            "LogConfig",
            "LogFormat",
            "Mode",
            "OnDown",
            "Policy",
            "ProbeConfig",
            "StatusRange",
            "TimeoutConfig",
        ),
        "fastlb.model.config",
    ),
}


def __getattr__(name: str) -> Any:
    """Import a public name from the room it lives in (PEP 562)."""
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(room), name)
