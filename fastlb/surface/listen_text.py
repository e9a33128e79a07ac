"""The value of one `--listen`: an address, and options after commas."""

from fastlb.model.address import parse_listen
from fastlb.model.config import ListenerConfig, Mode
from fastlb.model.errors import ConfigError

FLAG = "--listen"
_PROXY_PROTOCOL = "proxy_protocol"


def parse_listen_text(text: str, mode: Mode) -> ListenerConfig:
    """Read `:8080` or `:8080,proxy_protocol`. Raises: ConfigError that names the flag and the option."""
    address_text, *options = text.split(",")
    address = parse_listen(address_text, path=FLAG)
    for place, option in enumerate(options):
        if option in options[:place]:
            raise ConfigError(f"{FLAG} {text}", option, "an option to give twice")
        if option != _PROXY_PROTOCOL:
            raise ConfigError(f"{FLAG} {text}", option, f"an option of a listener: {_PROXY_PROTOCOL}")
    return ListenerConfig(address=address, mode=mode, proxy_protocol=_PROXY_PROTOCOL in options)
