"""One line per second: where the requests of the last second went."""

from collections.abc import Mapping
from datetime import datetime

from rich.console import Console
from rich.text import Text

_COLOURS = ("green", "cyan", "magenta")
_BAR_MAX_CHARS = 20


def opening(url: str, engine: str, delays_ms: Mapping[str, int]) -> str:
    """What is said first."""
    pool = ", ".join(f"{name} ({delay_ms} ms)" for name, delay_ms in delays_ms.items())
    return (
        f"fastlb listens on {url} with the {engine} engine, policy least_conn\n"
        f"backends: {pool}\n"
        f"try:      curl -i {url}\n"
        "stop:     Ctrl-C\n"
    )


def line_of(now: datetime, served: Mapping[str, int], failed: int) -> Text:
    """The line for one second. `served`: requests by backend; `failed`: what clients saw go wrong."""
    total = sum(served.values())
    line = Text(f"{now:%H:%M:%S}  {total:4d} requests")
    for place, (name, count) in enumerate(served.items()):
        bar = "#" * (round(_BAR_MAX_CHARS * count / total) if total else 0)
        line.append(f"  {name} {count:3d} ")
        line.append(f"{bar:<{_BAR_MAX_CHARS}}", style=_COLOURS[place % len(_COLOURS)])
    line.append(f"  failed {failed}", style="red" if failed else "")
    return line


def show(console: Console, line: Text) -> None:
    """Print it on one line whatever the width; plain where the output is no terminal."""
    console.print(line, soft_wrap=True)
    console.file.flush()
