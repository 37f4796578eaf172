"""The pool as a graph: a column for each step, and a line from each program to its parents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from simba_actors.store.queries.pool_queries import PoolEntry

COLUMN, ROW, MARGIN, RADIUS = 84, 30, 28, 8

MOST_SHOWN = 250
"""Maximum number of programs in one graph. Of a larger pool it shows the best ones and their ancestors."""

KNOWN = ("student", "append_a_rule", "append_a_demo", "learn_from_failures", "merge_rules", "recombine")
"""Strategies that have the same shape in all runs."""

SHAPES = ("disc", "circle", "square", "triangle", "diamond", "wedge")

WORST, BEST = (68, 1, 84), (253, 190, 37)
"""Ends of the colour scale, dark violet and amber, which colour-blind readers can tell apart."""


def shown_in_graph(ranking: Sequence[int], parents: Mapping[int, Sequence[int]]) -> set[int]:
    """Return all programs, or the best of the ranking with their ancestors if there are too many."""
    chosen: set[int] = set()
    for best in ranking:
        waiting = [best]
        while waiting:
            number = waiting.pop()
            if number in parents and number not in chosen:
                chosen.add(number)
                waiting.extend(parents[number])
        if len(chosen) >= MOST_SHOWN:
            break
    return chosen


def lineage_graph(entries: Sequence[PoolEntry], link: Callable[[int], str], winner: int | None) -> Markup:
    """Draw programs filled by score and shaped by strategy. Rings mark the finalists, a label the winner.

    `link` returns the address of a program's page.
    """
    centres, looks = _centres(entries), _looks(entries)
    scores = [entry.score for entry in entries if entry.score is not None]
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    edges = (
        _edge(centres[parent], centres[entry.number], to_winner=entry.number == winner)
        for entry in entries
        for parent in entry.parents
        if parent in centres
    )
    nodes = (
        _node(entry, centres[entry.number], looks[entry.strategy], _colour(entry.score, low, high), link, winner)
        for entry in entries
    )
    width = max((x for x, _ in centres.values()), default=0) + MARGIN
    height = max((y for _, y in centres.values()), default=0) + MARGIN
    return Markup(  # noqa: S704 - made of numbers, our own addresses and names of strategies, which are escaped
        f'<svg class="lineage" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="Lineage of {len(entries)} programs">{"".join(edges)}{"".join(nodes)}</svg>'
    )


def legend(entries: Sequence[PoolEntry]) -> Markup:
    """Return the shape of each strategy in the graph, with its name."""
    frame = Markup(
        '<span class="sign"><svg class="lineage" width="22" height="22" aria-hidden="true">{}</svg> {}</span> '
    )
    shapes = {strategy: _shape(look, 11, 11, "none") for strategy, look in _looks(entries).items()}
    signs = (frame.format(Markup(shape), strategy) for strategy, shape in shapes.items())  # noqa: S704 - numbers
    return Markup("").join(signs)


def _centres(entries: Sequence[PoolEntry]) -> dict[int, tuple[int, int]]:
    columns = {step: index for index, step in enumerate(sorted({entry.step for entry in entries}))}
    filled: dict[int, int] = {}
    centres: dict[int, tuple[int, int]] = {}
    for entry in entries:
        row = filled[entry.step] = filled.get(entry.step, -1) + 1
        centres[entry.number] = (MARGIN + columns[entry.step] * COLUMN, MARGIN + row * ROW)
    return centres


def _edge(parent: tuple[int, int], child: tuple[int, int], *, to_winner: bool) -> str:
    (x1, y1), (x2, y2) = parent, child
    middle = (x1 + x2) // 2
    kind = "edge to-winner" if to_winner else "edge"
    return f'<path class="{kind}" d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>'


def _node(
    entry: PoolEntry, centre: tuple[int, int], look: str, colour: str, link: Callable[[int], str], winner: int | None
) -> str:
    x, y = centre
    score = "not scored" if entry.score is None else f"{entry.score:.3f}"
    won, finalist = entry.number == winner, entry.rank is not None
    role = ", the winner" if won else ", a finalist" if finalist else ""
    title = Markup("program {}: {}, {}{}").format(entry.number, score, entry.strategy, role)
    ring = f'<circle class="{"winner" if won else "finalist"}" cx="{x}" cy="{y}" r="{RADIUS + 5}"/>' if finalist else ""
    label = f"{entry.number} ★" if won else str(entry.number)
    return (
        f'<a href="{link(entry.number)}" aria-label="{title}"><title>{title}</title>{ring}{_shape(look, x, y, colour)}'
        f'<text{" class=winner" if won else ""} x="{x + RADIUS + 7}" y="{y + 4}">{label}</text></a>'
    )


def _looks(entries: Sequence[PoolEntry]) -> dict[str, str]:
    """Return a shape for each strategy. If there are more strategies than shapes, shapes recur."""
    found = {entry.strategy for entry in entries}
    known = [name for name in KNOWN if name in found]
    return {name: SHAPES[index % len(SHAPES)] for index, name in enumerate([*known, *sorted(found - set(KNOWN))])}


def _shape(look: str, x: int, y: int, colour: str) -> str:
    r, much = RADIUS, RADIUS + 2
    match look:
        case "disc":
            return f'<circle class="node disc" cx="{x}" cy="{y}" r="{much}" fill="{colour}"/>'
        case "circle":
            return f'<circle class="node circle" cx="{x}" cy="{y}" r="{r}" fill="{colour}"/>'
        case "square":
            corners = ((-r, -r), (r, -r), (r, r), (-r, r))
        case "diamond":
            corners = ((0, -much), (much, 0), (0, much), (-much, 0))
        case "triangle":
            corners = ((0, -much), (much, r), (-much, r))
        case _:
            corners = ((0, much), (much, -r), (-much, -r))
    points = " ".join(f"{x + dx},{y + dy}" for dx, dy in corners)
    return f'<polygon class="node {look}" points="{points}" fill="{colour}"/>'


def _colour(score: float | None, low: float, high: float) -> str:
    if score is None:
        return "#888888"
    share = 1.0 if high <= low else (score - low) / (high - low)
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(WORST, BEST, strict=True))
