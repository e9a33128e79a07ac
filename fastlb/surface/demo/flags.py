"""The flags of `fastlb demo`."""

from fastlb.model.config import EngineChoice
from fastlb.model.errors import ConfigError
from fastlb.surface.numbers import parse_whole

PORT_MAX = 65_535


def read_port(text: str) -> int:
    """The port to listen on; 0 lets the kernel choose. Raises: ConfigError naming `--port`."""
    port = parse_whole(text, path="--port")
    if port > PORT_MAX:
        raise ConfigError("--port", text, f"from 0 to {PORT_MAX}")
    return port


def read_engine(text: str) -> EngineChoice:
    """Raises: ConfigError naming `--engine`."""
    try:
        return EngineChoice(text)
    except ValueError:
        raise ConfigError("--engine", text, "auto, native or pure") from None
