"""A picture of a roll: a timeline in, SVG out. Hosts above, tasks below, over time; what was done as lines across.

Plain SVG with a title and a description, no script and nothing from elsewhere: it can stand in a page or by itself.
"""

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from pipeline.progress import duration
from pipeline.rehearsal.fleet.timeline import BANDS, TASKS_OLD, Mark, Timeline

WIDTH: Final = 960
LEFT: Final = 56
RIGHT: Final = 16
PANEL: Final = 190
GAP: Final = 34
TOP: Final = 64
COLOURS: Final = (
    # Told apart also by those who do not see red and green: Okabe and Ito's palette, old hosts grey and orange.
    *("#9a9a9a", "#e69f00", "#d55e00", "#d9d9d9", "#a6d8f5", "#0072b2", "#cc79a7"),
    *("#9a9a9a", "#0072b2", "#f0e442", "#cc79a7"),
)


def picture(timeline: Timeline, *, title: str, desired: int) -> str:
    """The SVG of a timeline; `desired` hosts are drawn as a line that hosts in service must not fall below."""
    samples = timeline.samples
    end = max(timeline.world.t, samples[-1][0] if samples else 0, 1.0)
    scale = (WIDTH - LEFT - RIGHT) / end
    panels = (
        ("hosts", range(TASKS_OLD), TOP),
        ("tasks", range(TASKS_OLD, len(BANDS)), TOP + PANEL + GAP),
    )
    body = []
    for name, bands, top in panels:
        most = int(max((sum(sample[1 + band] for band in bands) for sample in samples), default=1)) or 1
        body.append(_axis(name, most, top))
        body += _areas(samples, bands, top, most, scale, end)
        if name == "hosts":
            y = top + PANEL * (1 - desired / most)
            body.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="desired"/>'
                f'<text x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end">desired {desired}</text>'
            )
    bottom = TOP + 2 * PANEL + GAP
    body += _marks(timeline.marks, scale, bottom)
    body += _ticks(end, scale, bottom)
    legend, height = _legend(samples, bottom + 44)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, {chr(34): "&quot;"})}">'
        f"<title>{escape(title)}</title><style>text{{font:12px sans-serif;fill:#222}}"
        ".desired{stroke:#222;stroke-dasharray:4 3}.mark{stroke:#222;stroke-width:.7;opacity:.55}"
        ".axis{stroke:#888}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="{LEFT}" y="20" style="font-size:15px;font-weight:bold">{escape(title)}</text>'
        + "".join(body)
        + legend
        + "</svg>"
    )


def _areas(
    samples: Sequence[tuple[float, ...]], bands: range, top: int, most: int, scale: float, end: float
) -> list[str]:
    """One area a band, stacked from below; counts hold until the next sample, so edges are steps."""
    areas = []
    for band in bands:
        if not any(sample[1 + band] for sample in samples):
            continue
        above, below = [], []
        for index, sample in enumerate(samples):
            until = samples[index + 1][0] if index + 1 < len(samples) else end
            under = sum(sample[1 + other] for other in bands if other < band)
            for x in (LEFT + sample[0] * scale, LEFT + until * scale):
                above.append(f"{x:.1f},{top + PANEL * (1 - (under + sample[1 + band]) / most):.1f}")
                below.append(f"{x:.1f},{top + PANEL * (1 - under / most):.1f}")
        points = " ".join(above + below[::-1])
        areas.append(f'<polygon fill="{COLOURS[band]}" points="{points}"><title>{BANDS[band]}</title></polygon>')
    return areas


def _axis(name: str, most: int, top: int) -> str:
    return (
        f'<line x1="{LEFT}" x2="{LEFT}" y1="{top}" y2="{top + PANEL}" class="axis"/>'
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{top + PANEL}" y2="{top + PANEL}" class="axis"/>'
        f'<text x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most}</text>'
        f'<text x="{LEFT - 6}" y="{top + PANEL}" text-anchor="end">0</text>'
        f'<text x="{LEFT - 6}" y="{top + PANEL / 2:.0f}" text-anchor="end">{name}</text>'
    )


def _marks(marks: Sequence[Mark], scale: float, bottom: int) -> list[str]:
    """A line for each thing that was done; words in two rows, so that neighbours do not cover each other."""
    drawn, ends = [], [0.0, 0.0]
    for mark in marks:
        x = LEFT + mark.at * scale
        row = 0 if ends[0] <= x else 1
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom}" class="mark"/>')
        if ends[row] <= x:
            drawn.append(f'<text x="{x + 2:.1f}" y="{TOP - 24 + 14 * row}">{escape(mark.text)}</text>')
            ends[row] = x + 10 + 6.5 * len(mark.text)
    return drawn


def _ticks(end: float, scale: float, bottom: int) -> list[str]:
    step = next((one for one in (30, 60, 120, 300, 600, 1800, 3600, 7200, 21600) if end / one <= 10), 43200)
    return [
        f'<text x="{LEFT + at * scale:.1f}" y="{bottom + 16}" text-anchor="middle">{duration(at)}</text>'
        for at in range(0, int(end) + 1, step)
    ]


def _legend(samples: Sequence[tuple[float, ...]], top: int) -> tuple[str, int]:
    shown = [band for band in range(len(BANDS)) if any(sample[1 + band] for sample in samples)]
    entries = []
    for place, band in enumerate(shown):
        x, y = LEFT + place % 3 * 300, top + place // 3 * 18
        entries.append(
            f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{COLOURS[band]}"/>'
            f'<text x="{x + 18}" y="{y}">{BANDS[band]}</text>'
        )
    return "".join(entries), top + (len(shown) + 2) // 3 * 18 + 6
