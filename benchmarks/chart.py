"""The chart: CPU per request by scenario and balancer, as horizontal bars."""

from pathlib import Path
from typing import Any

from benchmarks.results import Results
from benchmarks.scenarios import LOADS, NATIVE, PROXIES, Scenario

_COLOURS = {NATIVE: "#1f6f43", "HAProxy": "#7f95aa", "nginx": "#b3c1ce", "Envoy": "#d3dbe3"}
_BAR = 0.2
_TITLE = "CPU time of the balancer per request, microseconds (less is better)"


def missing() -> str | None:
    """Why no chart can be drawn, or None."""
    try:
        import matplotlib  # noqa: F401 -- only whether it is there
    except ImportError:
        return "not installed (pip install matplotlib)"
    return None


def draw(results: Results, path: Path) -> None:
    """Write a PNG. Small and bulk work have an axis each: they differ by a factor of fifty."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    loads = [one for one in LOADS if results.samples.get(one.key, {}).get(NATIVE) and not one.access_log]
    groups = [group for bulk in (False, True) if (group := [one for one in loads if one.bulk is bulk])]
    if not groups:
        return
    figure, axes = pyplot.subplots(
        len(groups),
        1,
        figsize=(9, 1.6 + 0.72 * len(loads)),
        height_ratios=[len(group) for group in groups],
        squeeze=False,
        layout="constrained",
    )
    for axis, group in zip(axes[:, 0], groups, strict=True):
        _bars(axis, group, results)
    figure.suptitle(_TITLE, fontsize=11)
    axes[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(PROXIES), frameon=False, fontsize=9)
    figure.supxlabel(_caption(results), fontsize=7, color="#666666")
    figure.savefig(path, dpi=144)
    pyplot.close(figure)


def _bars(axis: Any, loads: list[Scenario], results: Results) -> None:
    """One group of bars for each scenario, its figure at the end of each bar."""
    for offset, name in enumerate(PROXIES):
        places = [index + (offset - 1.5) * _BAR for index in range(len(loads))]
        widths = [results.median_of(one.key, name, "cpu_us") or 0.0 for one in loads]
        bars = axis.barh(places, widths, height=_BAR * 0.92, color=_COLOURS[name], label=name)
        axis.bar_label(bars, [f"{width:.1f}" if width else "-" for width in widths], padding=3, fontsize=8)
    axis.set_yticks(range(len(loads)), [one.title for one in loads], fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.08)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8)


def _caption(results: Results) -> str:
    head = results.head
    machine = f"{head['cpu']}, kernel {head['kernel']}"
    facts = ["one worker each", machine, head["versions"], f"commit {head['commit']}", results.disturbance()]
    return "; ".join(fact for fact in facts if fact)
