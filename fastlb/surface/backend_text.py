"""The value of one `--backend`: an address, and options after commas."""

from fastlb.model.address import parse_backend
from fastlb.model.config import BackendConfig
from fastlb.model.errors import ConfigError
from fastlb.model.proxied import ProxyProtocol
from fastlb.surface.numbers import parse_whole

FLAG = "--backend"
NAME_MAX_CHARS = 64
_NAME_FORM = "visible ASCII characters without spaces"
_KNOWN = "weight=1..256, backup, max_conns=N, name=TEXT or proxy_protocol=v1|v2"
_OPTIONS = frozenset({"weight", "backup", "max_conns", "name", "proxy_protocol"})
_VERSIONS = {version.value: version for version in (ProxyProtocol.V1, ProxyProtocol.V2)}


def parse_backend_text(text: str) -> BackendConfig:
    """Read `host:port,weight=2,max_conns=100,name=blue,backup`.

    Raises: ConfigError that names the flag, the option and what would be right.
    """
    address_text, *options = text.split(",")
    if address_text.startswith("https://"):
        raise ConfigError(FLAG, text, "usable: fastlb speaks plain HTTP to backends, write http://host:port")
    address = parse_backend(address_text, path=FLAG)
    values: dict[str, str] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if name in values:
            raise ConfigError(f"{FLAG} {text}", name, "an option to give twice")
        if name not in _OPTIONS or bool(equals) is (name == "backup"):
            raise ConfigError(f"{FLAG} {text}", option, f"an option of a backend: {_KNOWN}")
        values[name] = value
    if address.is_unix and "name" not in values and not _is_name(str(address)):
        raise ConfigError(FLAG, text, f"a path that can stand in a log line: add name= with {_NAME_FORM}")
    try:
        return BackendConfig(
            address=address,
            weight=_whole(text, "weight", values.get("weight", "1")),
            max_conns=_whole(text, "max_conns", values.get("max_conns", "0")),
            backup="backup" in values,
            name=_name(text, values["name"]) if "name" in values else "",
            proxy_protocol=_proxy_protocol(text, values.get("proxy_protocol")),
        )
    except ConfigError as error:
        if not error.path.startswith("backend."):
            raise
        option = error.path.removeprefix("backend.")
        raise ConfigError(f"{FLAG} {text}: {option}", values[option], error.expected) from None


def _whole(text: str, option: str, value: str) -> int:
    return parse_whole(value, path=f"{FLAG} {text}: {option}")


def _proxy_protocol(text: str, value: str | None) -> ProxyProtocol:
    if value is None:
        return ProxyProtocol.OFF
    if value not in _VERSIONS:
        raise ConfigError(f"{FLAG} {text}: proxy_protocol", value, "v1 or v2")
    return _VERSIONS[value]


def _name(text: str, value: str) -> str:
    if not _is_name(value) or len(value) > NAME_MAX_CHARS:
        raise ConfigError(f"{FLAG} {text}: name", value, f"1 to {NAME_MAX_CHARS} {_NAME_FORM}")
    return value


def _is_name(value: str) -> bool:
    # A line of the text access log is split at spaces, so a name has none.
    return value.isascii() and value.isprintable() and " " not in value and value != ""
