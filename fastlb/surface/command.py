"""The click command: made from the table of flags, with help grouped by topic.

click alone draws one list of options; the grouping is the `format_options` below, which is less
than a further dependency would be.
"""

from typing import Any

import click

from fastlb import __version__
from fastlb.surface.flags import FLAGS, Flag, Topic
from fastlb.surface.settings import Typed

HELP_COLUMNS_MAX = 100
_NAMES_COLUMN_MAX = 34
_EXAMPLE = "fastlb --listen :8080 --backend 127.0.0.1:9001 --backend 127.0.0.1:9002,weight=2"


class TopicGroup(click.Group):
    """A group whose help lists the flags under the headings of `Topic`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each topic, then the rest (`--version`, `--help`)."""
        records = {param.opts[0]: param.get_help_record(ctx) for param in self.get_params(ctx)}
        for topic in Topic:
            rows = [records.pop(flag.name) for flag in FLAGS if flag.topic is topic]
            with formatter.section(topic.value):
                formatter.write_dl([row for row in rows if row is not None], col_max=_NAMES_COLUMN_MAX)
        with formatter.section("Other"):
            formatter.write_dl([row for row in records.values() if row is not None])
        self.format_commands(ctx, formatter)


def as_click_option(flag: Flag) -> click.Option:
    """Texts only: what they mean is decided in settings.py, without click."""
    shown = f"  [{flag.default}]" if flag.default else ""
    if flag.is_switch:
        return click.Option([flag.name], is_flag=True, help=flag.help)
    return click.Option(
        [flag.name], metavar=flag.metavar, multiple=flag.repeatable, type=str, help=flag.help + shown
    )


def read_typed(parameters: dict[str, Any]) -> Typed:
    """Sort what click read by the kind of flag."""
    single: dict[str, str] = {}
    repeated: dict[str, tuple[str, ...]] = {}
    switches: set[str] = set()
    for flag in FLAGS:
        value = parameters[flag.name.removeprefix("--").replace("-", "_")]
        if flag.repeatable:
            repeated[flag.name] = tuple(value)
        elif flag.is_switch:
            if value:
                switches.add(flag.name)
        elif value is not None:
            single[flag.name] = value
    return Typed(single=single, repeated=repeated, switches=frozenset(switches))


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"fastlb {__version__}")
        ctx.exit()


def version_option() -> click.Option:
    """`--version`, without a look into the installed metadata: that would cost 20 ms."""
    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_version,
        help="Say the version and stop.",
    )


def make_group(callback: Any) -> TopicGroup:
    """The command `fastlb`; `callback` gets the context and every flag."""
    return TopicGroup(
        name="fastlb",
        callback=click.pass_context(callback),
        invoke_without_command=True,
        subcommand_metavar="| demo | doctor",
        options_metavar="[FLAGS]",
        params=[*map(as_click_option, FLAGS), version_option()],
        help=f"Balance HTTP or TCP traffic over backends.\n\n\b\nExample:\n  {_EXAMPLE}\n\n"
        "A DURATION is a number with its unit: 250ms, 2s, 1m, 1h.",
        context_settings={"max_content_width": HELP_COLUMNS_MAX, "help_option_names": ["--help", "-h"]},
    )
