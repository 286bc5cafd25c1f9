"""The picture of methods: the frontier is right, names cover nothing, missing is not drawn."""

from __future__ import annotations

import random
import re
from xml.dom.minidom import parseString

import pytest
from synthetic_comparisons import METHODS, around, build_comparison

from babelgate.report.figure import LAYOUTS, NARROW, WIDE
from babelgate.report.figures_costs import costs_figure
from babelgate.report.figures_pareto import pareto_figure
from babelgate.report.placing import Box, Named, place
from babelgate.report.spots import Spot, frontier, spots_of


def spot(name: str, x: float, y: float) -> Spot:
    return Spot(name, "gate", around(x, 0.02), around(y, 0.02))


def test_frontier_is_what_no_other_beats():
    rng = random.Random(0)
    checked = 0
    for _ in range(200):
        # A coarse grid, so that ties occur.
        spots = [
            spot(str(i), rng.randint(0, 5) / 5, rng.randint(0, 5) / 5)
            for i in range(rng.randint(1, 12))
        ]
        slow = {
            a.name
            for a in spots
            if not any(
                b.x.value <= a.x.value
                and b.y.value >= a.y.value
                and (b.x.value < a.x.value or b.y.value > a.y.value)
                for b in spots
            )
        }
        best = frontier(spots)
        assert {s.name for s in best} == slow
        assert [s.x.value for s in best] == sorted(s.x.value for s in best)
        checked += 1
    assert checked == 200


@pytest.mark.parametrize("n", [1, 5, 25])
@pytest.mark.parametrize("spread", [0.0, 30.0, 300.0])
def test_names_cover_neither_names_nor_marks(n, spread):
    rng = random.Random(n)
    points = [
        Named(200 + rng.uniform(0, spread), 200 + rng.uniform(0, spread), f"name-{i}" * (1 + i % 3))
        for i in range(n)
    ]
    inside = Box(0, 0, 600, 600)
    placed = [p for p in place(points, inside, 12.5, marks=[(230, 230)]) if p is not None]
    assert placed
    boxes = [p.box for p in placed]
    for i, box in enumerate(boxes):
        assert inside.holds(box)
        assert not any(box.meets(other) for other in boxes[i + 1 :])
        for x, y in [*((p.x, p.y) for p in points), (230, 230)]:
            assert not (box.left < x < box.right and box.top < y < box.bottom)
    for one in placed:
        if one.leader is not None:
            line = ((one.point.x, one.point.y), one.leader)
            others = [b for b in boxes if b is not one.box]
            assert not any(b.crossed(*line) for b in others)


def test_a_line_crosses_a_box_where_a_point_of_it_lies_inside():
    rng = random.Random(1)
    seen = {True: 0, False: 0}
    for _ in range(500):
        left, top = rng.uniform(0, 10), rng.uniform(0, 10)
        box = Box(left, top, left + rng.uniform(1, 6), top + rng.uniform(1, 6))
        a, b = [(rng.uniform(-2, 16), rng.uniform(-2, 16)) for _ in range(2)]
        steps = [(a[0] + (b[0] - a[0]) * t / 2000, a[1] + (b[1] - a[1]) * t / 2000)
                 for t in range(2001)]  # fmt: skip
        slow = any(box.left < x < box.right and box.top < y < box.bottom for x, y in steps)
        if slow:
            assert box.crossed(a, b)
        grown = Box(box.left - 0.1, box.top - 0.1, box.right + 0.1, box.bottom + 0.1)
        if not any(grown.left < x < grown.right and grown.top < y < grown.bottom for x, y in steps):
            assert not box.crossed(a, b)
        seen[slow] += 1
    assert min(seen.values()) > 50
    assert not Box(0, 0, 2, 2).crossed((3, -1), (3, 5))
    assert Box(0, 0, 2, 2).crossed((1, -1), (1, 5))


def texts(svg: str) -> list[str]:
    return [t.firstChild.data for t in parseString(svg).getElementsByTagName("text")]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["wide", "narrow"])
def test_every_method_is_named_and_marked(layout):
    for methods in (("base",), ("base", "gate", "paper"), tuple(METHODS), ("base", "y" * 80)):
        figure = pareto_figure(build_comparison(methods))
        assert figure is not None
        svg = figure.svg(layout)
        written = " ".join(texts(svg))
        hints = re.findall(r"<title>([^<]*): [^<]*harmless refused</title>", svg)
        assert sorted(hints) == sorted(methods)
        for name in methods:
            assert name[:20] in written
        values = re.findall(r'\b(?:x|y|x1|x2|y1|y2|cx|cy)="([^"]*)"', svg)
        assert all(re.fullmatch(r"-?\d+(\.\d)?", v) for v in values)


def test_few_methods_are_named_at_their_marks_and_many_are_numbered():
    few = pareto_figure(build_comparison(("base", "gate", "paper")))
    many = pareto_figure(build_comparison())
    assert few is not None
    assert many is not None
    assert "1" not in texts(few.svg(WIDE))
    numbers = [t for t in texts(many.svg(NARROW)) if t == str(len(METHODS))]
    assert len(numbers) == 2  # at the mark and in the list


def test_shapes_differ_where_colours_do():
    svg = pareto_figure(build_comparison()).svg(WIDE)  # type: ignore[union-attr]
    looks = {
        (css.split()[0], re.sub(r"[\d.,-]+", "", shape))
        for css, shape in re.findall(r'<path class="(s\d[^"]*)" d="([^"]*)"', svg)
    }
    looks |= {(css, "circle") for css in re.findall(r'<circle class="(s\d)', svg)}
    assert len({css for css, _ in looks}) == len({shape for _, shape in looks}) == 5


def test_missing_methods_are_named_and_not_drawn():
    comparison = build_comparison(("base", "gate", "paper"), missing=[("paper", "all")])
    spots, missing = spots_of(comparison)
    assert [s.name for s in spots] == ["base", "gate"]
    assert missing == ["paper"]
    figure = pareto_figure(comparison)
    assert figure is not None
    assert "nothing was scored: paper" in figure.caption
    assert "paper" not in texts(figure.svg(WIDE))
    assert pareto_figure(build_comparison(("base",), missing=[("base", "all")])) is None


def test_costs_are_drawn_where_they_were_measured():
    comparison = build_comparison(("base", "gate", "gate-fixed-refusal", "guard"))
    figure = costs_figure(comparison)
    assert figure is not None
    svg = figure.svg(WIDE)
    assert texts(svg).count("Selectivity Δ") == 3
    assert len(re.findall(r"<title>guard: ", svg)) == 2  # fixed words have no divergence
    assert "KL: gate-fixed-refusal and guard" in figure.caption
    assert len(re.findall(r"<title>base: ", svg)) == 2  # its time is the unit, not measured
    bare = costs_figure(build_comparison(("base", "guard"), latency=False, kl=False))
    assert bare is not None
    assert texts(bare.svg(NARROW)).count("Selectivity Δ") == 1
    assert costs_figure(build_comparison(("base",), missing=[("base", "all")])) is None


def test_figures_are_saved_with_plain_colours():
    for figure in (pareto_figure(build_comparison()), costs_figure(build_comparison())):
        assert figure is not None
        text = figure.standalone()
        parseString(text)
        assert "var(" not in text
