"""Small pictures for the page, as inline SVG that takes its colours from the page's style."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from serving.drift.histograms import Histogram

WIDTH, HEIGHT = 240.0, 56.0
_EDGE = 3.0


def bars(histogram: Histogram, drifted: bool) -> Markup:
    """The window's shares as narrow bars before the reference's broad ones; both are told on pointing at them."""
    top = max([*histogram.reference, *histogram.window, 1e-9])
    step = WIDTH / max(len(histogram.labels), 1)
    parts = zip(histogram.labels, histogram.reference, histogram.window, strict=True)
    rectangles = [
        f"<g><title>{escape(label)}: {window:.1%} now, {reference:.1%} in the reference</title>"
        f'<rect x="{place * step:.1f}" y="0" width="{step:.1f}" height="{HEIGHT:g}" class="hit"/>'
        + _bar("reference", (place + 0.06) * step, 0.88 * step, reference / top)
        + _bar("drifted" if drifted else "now", (place + 0.27) * step, 0.46 * step, window / top)
        + "</g>"
        for place, (label, reference, window) in enumerate(parts)
    ]
    return _picture([*rectangles, _rule("axis", HEIGHT)])


def line(values: Sequence[float | None], rule: float, low: float, high: float, alarms: Sequence[bool]) -> Markup:
    """Values over windows between `low` and `high`, with a dashed rule; a dot where the signal was an alarm."""
    span = max(high - low, 1e-9)
    step = (WIDTH - 2 * _EDGE) / max(len(values) - 1, 1)

    def place(value: float) -> float:
        return _EDGE + (HEIGHT - 2 * _EDGE) * (1 - min(max((value - low) / span, 0), 1))

    points = [
        (_EDGE + n * step, place(value), alarm)
        for n, (value, alarm) in enumerate(zip(values, alarms, strict=True))
        if value is not None
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 if alarm else 1.4}" class="{"drifted" if alarm else "now"}"/>'
        for x, y, alarm in points
    ]
    return _picture([_rule("rule", place(rule)), f'<polyline points="{path}" class="path"/>', *dots])


def _bar(kind: str, x: float, width: float, share: float) -> str:
    height = share * (HEIGHT - 2)
    return f'<rect x="{x:.1f}" y="{HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>'


def _rule(kind: str, y: float) -> str:
    return f'<line x1="0" x2="{WIDTH:g}" y1="{y:.1f}" y2="{y:.1f}" class="{kind}"/>'


def _picture(parts: list[str]) -> Markup:
    # Everything in `parts` is a number of ours or was escaped above.
    return Markup(f'<svg viewBox="0 -1 {WIDTH:g} {HEIGHT + 2:g}" role="img">{"".join(parts)}</svg>')
