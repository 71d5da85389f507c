"""Figures of several rounds as one Markdown table, and as JSON."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

COLUMNS = ("ours", "theirs", "bare")
ABSENT = "-"


@dataclass
class Row:
    """`figures`: of each contender, one a round. `faults`: why it has none. `is_more_better`: the unit's arrow."""

    key: str
    label: str
    unit: str
    is_more_better: bool = False
    figures: dict[str, list[float]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, figure: float | None) -> None:
        if figure is not None:
            self.figures.setdefault(name, []).append(figure)

    def fail(self, name: str, reason: str) -> None:
        self.faults[name] = reason

    def median(self, name: str) -> float | None:
        """None when it was not measured, or when one of its rounds failed."""
        figures = self.figures.get(name)
        return statistics.median(figures) if figures and name not in self.faults else None

    def ratio(self, name: str) -> float | None:
        """Ours to theirs, or to another's."""
        ours, other = self.median("ours"), self.median(name)
        return None if ours is None or not other else ours / other

    def spread(self, name: str) -> float | None:
        """Half the distance from the lowest to the highest round, of the median."""
        median = self.median(name)
        if not median or len(self.figures[name]) < 2:
            return None
        return (max(self.figures[name]) - min(self.figures[name])) / 2 / median

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "label": self.label,
            "unit": self.unit,
            "is_more_better": self.is_more_better,
            "figures": self.figures,
            "faults": self.faults,
            "medians": {name: self.median(name) for name in self.figures},
            "ours_to_theirs": self.ratio("theirs"),
            "ours_to_bare": self.ratio("bare"),
        }


def render(rows: Iterable[Row]) -> str:
    lines = [
        "| | unit | ours | Hayhooks | bare | ours / Hayhooks | ours / bare | spread: ours, Hayhooks, bare |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        arrow = "↑" if row.is_more_better else "↓"
        cells = [row.label, f"{row.unit} {arrow}", *(_cell(row, name) for name in COLUMNS)]
        cells += [_show_ratio(row.ratio(name)) for name in ("theirs", "bare")]
        cells.append(_show_spread([row.spread(name) for name in COLUMNS]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row, name: str) -> str:
    if name in row.faults:
        return f"missing: {row.faults[name]}".replace("|", "\\|").replace("\n", " ")
    median = row.median(name)
    return ABSENT if median is None else _show(median)


def _show(figure: float) -> str:
    """Three digits that mean something."""
    if figure >= 100 or figure == int(figure):
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def _show_ratio(ratio: float | None) -> str:
    return ABSENT if ratio is None else f"{ratio:.2f}"


def _show_spread(spreads: Sequence[float | None]) -> str:
    if all(spread is None for spread in spreads):
        return ABSENT
    return ", ".join(ABSENT if spread is None else f"±{spread:.0%}" for spread in spreads)
