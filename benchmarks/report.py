"""The results as Markdown: verdicts, then each figure, then what the figures rest on."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.results import Results, Spread
from benchmarks.scenarios import (
    CHURN_TITLE,
    DIRECT,
    FLOOR,
    IDLES,
    LOADS,
    NATIVE,
    PROXIES,
    PURE,
    STARLETTE,
    Scenario,
)
from benchmarks.targets import ratio_text, verdicts


def markdown(results: Results, keys: frozenset[str]) -> str:
    """The whole report."""
    loads = [one for one in LOADS if one.key in keys and one.key in results.samples]
    proxied = [one for one in loads if NATIVE in one.balancers]
    parts = ["# fastlb beside its peers\n", _head(results), _notes(results), _verdict_table(results, keys)]
    if proxied:
        parts += [
            _table("CPU per request, us (user and system)", proxied, results, "cpu_us", "{:.1f}", FLOOR),
            _ratio_table(proxied, results),
            _table("Requests per second", proxied, results, "requests_per_s", "{:.0f}", DIRECT),
            _table("Latency p50, us", proxied, results, "p50_us", "{:.0f}", DIRECT),
            _table("Latency p99, us", proxied, results, "p99_us", "{:.0f}", DIRECT),
            _machine_table(proxied, results),
        ]
    parts += [_python_table(results), _idle_table(results), _churn_table(results)]
    return "\n".join(part for part in parts if part)


def _head(results: Results) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in results.head.items()) + "\n"


def _notes(results: Results) -> str:
    """What is absent or doubtful, said before any figure."""
    notes = [f"- **{name} is missing**: {why}" for name, why in results.missing.items()]
    notes += [f"- **failed**: {failure}" for failure in results.failures]
    for key, names in results.samples.items():
        for name in names:
            errors = sum(one.errors for one in results.taken(key, name))
            if errors:
                notes.append(f"- {name}, {key}: {errors} errors seen by the client")
    if results.disturbance():
        notes.append(f"- **{results.disturbance()}**; these figures are not to be kept")
    return "\n".join(notes) + "\n" if notes else ""


def _verdict_table(results: Results, keys: frozenset[str]) -> str:
    rows = [(one.mark, one.work, one.target, one.measured) for one in verdicts(results, keys)]
    return _section("Targets, native engine with one worker", ("", "work", "target", "measured"), rows)


def _table(
    title: str, loads: Sequence[Scenario], results: Results, figure: str, form: str, *also: str
) -> str:
    def cell(key: str, name: str) -> str:
        return _form(results.median_of(key, name, figure), form)

    return _grid(title, loads, (*PROXIES, *also), cell)


def _ratio_table(loads: Sequence[Scenario], results: Results) -> str:
    def cell(key: str, name: str) -> str:
        return ratio_text(Spread.of(results.ratios(key, NATIVE, name)))

    title = f"CPU per request of {NATIVE} as a share of (median over rounds, least-greatest)"
    return _grid(title, loads, (*PROXIES[1:], FLOOR), cell)


def _machine_table(loads: Sequence[Scenario], results: Results) -> str:
    def cell(key: str, name: str) -> str:
        return _form(results.machine_us(key, name), "{:.1f}")

    title = "CPU per request of the whole machine less that with no balancer, us"
    return _grid(title, [one for one in loads if DIRECT in one.balancers], PROXIES, cell)


def _python_table(results: Results) -> str:
    figures = (("cpu_us", "{:.0f}"), ("requests_per_s", "{:.0f}"), ("p50_us", "{:.0f}"), ("p99_us", "{:.0f}"))
    rows = [
        (name, *(_form(results.median_of("python", name, figure), form) for figure, form in figures))
        for name in (PURE, STARLETTE)
        if name in results.samples.get("python", {})
    ]
    return _section("In pure Python", ("", "CPU us/request", "requests/s", "p50 us", "p99 us"), rows)


def _idle_table(results: Results) -> str:
    rows = [
        (one.title, *(_form(results.idle_bytes[one.key].get(name), "{:.0f}") for name in PROXIES))
        for one in IDLES
        if one.key in results.idle_bytes
    ]
    return _section("Bytes of private memory per idle connection", ("", *PROXIES), rows)


def _churn_table(results: Results) -> str:
    rows = [(f"{count:,}", f"{ns:.0f}") for count, ns in results.churn_ns.items()]
    return _section(f"{CHURN_TITLE}, one thread", ("backends", "ns"), rows)


def _grid(
    title: str, loads: Sequence[Scenario], names: Sequence[str], cell: Callable[[str, str], str]
) -> str:
    rows = [(one.title, *(cell(one.key, name) for name in names)) for one in loads]
    return _section(title, ("", *names), rows)


def _section(title: str, header: Sequence[str], rows: Sequence[Iterable[str]]) -> str:
    """A heading and a table, padded so that it reads well on a terminal too; empty without rows."""
    if not rows:
        return ""
    table = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[i]) for row in table)) for i in range(len(header))]
    table.insert(1, ["-" * width for width in widths])
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in table
    ]
    return f"## {title}\n\n" + "\n".join(lines) + "\n"


def _form(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
