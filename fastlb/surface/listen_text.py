"""The value of one `--listen`: an address, and options after commas."""

import re

from fastlb.model.address import parse_listen
from fastlb.model.config import ListenerConfig, Mode
from fastlb.model.errors import ConfigError

FLAG = "--listen"
_PROXY_PROTOCOL = "proxy_protocol"
_MODE = "mode"
_FORMS = f"an option of a listener: {_PROXY_PROTOCOL}, or {_MODE}=0660 for a UNIX socket"
_OCTAL = re.compile("0?[0-7]{3}")


def parse_listen_text(text: str, mode: Mode) -> ListenerConfig:
    """Read `:8080`, `:8080,proxy_protocol` or `unix:/path,mode=0660`.

    Raises: ConfigError that names the flag and the option.
    """
    address_text, *options = text.split(",")
    address = parse_listen(address_text, path=FLAG)
    names = [option.partition("=")[0] for option in options]
    socket_mode = None
    for place, (name, option) in enumerate(zip(names, options, strict=True)):
        if name in names[:place]:
            raise ConfigError(f"{FLAG} {text}", option, "an option to give twice")
        if name == _MODE and "=" in option:
            socket_mode = _parse_mode(text, option.partition("=")[2])
            if not address.is_unix:
                raise ConfigError(f"{FLAG} {text}", option, "an option of a TCP port: only a path has a mode")
        elif option != _PROXY_PROTOCOL:
            raise ConfigError(f"{FLAG} {text}", option, _FORMS)
    return ListenerConfig(
        address=address, mode=mode, proxy_protocol=_PROXY_PROTOCOL in names, socket_mode=socket_mode
    )


def _parse_mode(text: str, digits: str) -> int:
    if not _OCTAL.fullmatch(digits):
        raise ConfigError(f"{FLAG} {text}", digits, "a mode: three octal digits, such as 0660")
    return int(digits, 8)
