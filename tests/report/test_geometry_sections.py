"""The pictures of a diagnosis: every language named, missing said, nothing drawn outside."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from xml.dom.minidom import parseString

import numpy as np
import pytest
from synthetic_geometry import (
    CHOSEN,
    FIFTEEN,
    LAYERS,
    THREE,
    build_breaks,
    build_maps,
    build_page,
    build_profiles,
    build_projection,
    cosine_matrix,
    groups,
    transfer_matrix,
)

from babelgate.breaks import NOTHING, Breaks, Evidence, breaks_of
from babelgate.report.figure import LAYOUTS, NARROW, WIDE
from babelgate.report.figures_breaks import breaks_figure, breaks_words, sentences_table
from babelgate.report.figures_maps import Maps, ScoreMap, maps_figure, ramp_of
from babelgate.report.figures_matrix import layers_figure, matrix_figure
from babelgate.report.figures_profile import Profile, profile_figure
from babelgate.report.figures_projection import Cloud, Projection, projection_figure
from babelgate.report.geometry_sections import (
    GeometryPage,
    geometry_sections,
    geometry_summary,
    maps_words,
    matrix_words,
    profile_words,
    projection_words,
)
from babelgate.report.matrices import ABOVE, BELOW, STRONGEST, Ramp, groups_of
from babelgate.report.names import language_name
from babelgate.report.page import Head, Page
from babelgate.report.palette import DARK, LIGHT


def texts(svg: str) -> list[str]:
    found = parseString(svg).getElementsByTagName("text")
    return ["".join(n.data for n in t.childNodes if n.nodeType == n.TEXT_NODE) for t in found]


def hints(svg: str) -> list[str]:
    return re.findall(r"<title>([^<]*)</title>", svg)


def render(page: GeometryPage) -> str:
    head = Head("Diagnosis", "demo", [])
    return Page(head, geometry_summary(page), geometry_sections(page), []).html


def figures(page: GeometryPage):
    return [f for s in geometry_sections(page) for f in s.all_figures]


def widths(svg: str) -> list[float]:
    """The right ends of the rectangles and the places of texts outside groups that are moved."""
    plain = re.sub(r"<g transform.*?</g>", "", svg, flags=re.S)
    ends = [
        float(x) + float(w)
        for x, w in re.findall(r'<rect[^>]* x="([\d.-]+)"[^>]* width="([\d.]+)"', plain)
    ]
    return ends + [float(x) for x in re.findall(r'<text x="([\d.-]+)"', plain)]


# ---------------------------------------------------------------------------------------------
# the page


@pytest.mark.parametrize("languages", [FIFTEEN, THREE, ("en",)], ids=["15", "3", "1"])
def test_the_page_is_whole(languages):
    html = render(build_page(languages))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 20
    links = re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)
    assert set(links) <= set(ids)
    assert "nan" not in re.sub(r"<style>.*?</style>|<script>.*?</script>", "", html, flags=re.S)
    for code in languages:
        assert html.count(language_name(code)) > 3
    assert set(re.findall(r"https?://[^\"'<> ]+", html)) == {"http://www.w3.org/2000/svg"}
    assert len(html) < 4_000_000


def test_what_breaks_comes_first_and_what_was_skipped_last():
    keys = [s.key for s in geometry_sections(build_page())]
    assert keys == [
        "breaks", "profiles", "cosines", "transfer", "selection", "projection", "skipped"
    ]  # fmt: skip


def test_absent_parts_leave_no_section():
    empty = GeometryPage(("en", "yo"))
    assert geometry_sections(empty) == []
    assert geometry_summary(empty) == ["Nothing was measured."]
    for field in ("breaks", "profiles", "cosines", "transfers", "maps", "projections", "skipped"):
        page = GeometryPage(FIFTEEN, **{field: getattr(build_page(), field)})
        assert len(geometry_sections(page)) == 1
    nothing = dataclasses.replace(build_projection(THREE), clouds={"en": Cloud([], [], [])})
    assert geometry_sections(dataclasses.replace(empty, projections=(nothing,))) == []


@pytest.mark.parametrize("layout", LAYOUTS, ids=["wide", "narrow"])
@pytest.mark.parametrize("languages", [FIFTEEN, THREE], ids=["15", "3"])
def test_drawings_are_sound_and_stay_inside(layout, languages):
    checked = 0
    for figure in figures(build_page(languages)):
        svg = figure.svg(layout)
        root = parseString(svg).documentElement
        assert root is not None
        assert root.getAttribute("aria-labelledby")
        assert figure.caption
        assert figure.title in hints(svg.replace(f' id="{figure.name}-{layout.name}-title"', ""))
        assert "nan" not in svg
        assert max(widths(svg)) <= layout.width + 0.5
        assert float(root.getAttribute("height")) > 40
        ys = [float(y) for y in re.findall(r'<text x="[\d.-]+" y="([\d.-]+)"', svg)]
        assert max(ys) <= float(root.getAttribute("height")) + 4
        parseString(figure.standalone())
        assert "var(" not in figure.standalone()
        assert figure.tables
        checked += 1
    assert checked == 8


def test_what_was_skipped_is_said_with_its_reason():
    html = render(build_page())
    assert "the prompts of ba share no group_id with those of en" in html
    assert "Not done: Parallelism in Bashkir and Separability at t_inst" in html


# ---------------------------------------------------------------------------------------------
# what breaks where


@pytest.mark.parametrize("layout", LAYOUTS, ids=["wide", "narrow"])
def test_every_language_has_a_verdict_per_step(layout):
    breaks = build_breaks(FIFTEEN)
    rows = {r.language: r for r in breaks.rows}
    svg = breaks_figure(rows, groups(FIFTEEN)).svg(layout)
    for row in breaks.rows:
        assert language_name(row.language) in texts(svg)
        for step in row.steps:
            pattern = f"{row.language}, {step.name}: {step.verdict}"
            assert any(h.startswith(pattern) for h in hints(svg)), pattern
    framed = re.findall(r'<rect class="[^"]*"[^>]*stroke-width="2"', svg)
    if layout is NARROW:
        framed = re.findall(r'<rect class="ring"', svg)
    assert len(framed) == sum(r.diagnosis not in (NOTHING, "undecided") for r in breaks.rows)


def test_sentences_are_in_the_table_and_borders_with_their_source():
    breaks = build_breaks(THREE)
    table = sentences_table({r.language: r for r in breaks.rows}, groups(THREE))
    assert [r[0] for r in table.rows] == ["English (en)", "Korean (ko)", "Yoruba (yo)"]
    assert table.rows[1][1].startswith("Breaks at action: the prompt is understood (")
    assert table.rows[2][1].startswith("Undecided: ")
    section = geometry_sections(GeometryPage(THREE, breaks=breaks))[0]
    assert any("Hosmer" in cell for row in section.closed[0].rows for cell in row)


def test_the_summary_names_every_language_once():
    text = breaks_words(build_breaks(("en", "ko", "th", "yo")))
    main = text.split(". An earlier")[0]
    for code in ("en", "ko", "th", "yo"):
        assert main.count(language_name(code)) == 1
    assert breaks_words(breaks_of([Evidence("yo")])) == "Too little was measured to tell in Yoruba."
    assert geometry_sections(GeometryPage(("yo",), breaks=Breaks(()))) == []


# ---------------------------------------------------------------------------------------------
# matrices


def luminance(values: list[float]) -> float:
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_numbers_can_be_read_on_the_strongest_cell():
    """WCAG's contrast of ink to the hue laid over the paper, in both themes."""
    for palette in (LIGHT, DARK):
        rgb = {
            k: [int(palette[k][i : i + 2], 16) / 255 for i in (1, 3, 5)]
            for k in ("paper", "ink", BELOW, ABOVE)
        }
        for hue in (BELOW, ABOVE):
            mixed = [p + STRONGEST * (c - p) for p, c in zip(rgb["paper"], rgb[hue])]
            low, high = sorted((luminance(mixed), luminance(rgb["ink"])))
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_ramps_have_two_hues_around_their_centre():
    ramp = Ramp(-0.5, 1.0, 0.0)
    assert ramp.shade(0.0)[1] == 0
    assert ramp.shade(1.0) == (ABOVE, STRONGEST)
    assert ramp.shade(-0.25) == (BELOW, STRONGEST / 2)
    assert ramp.shade(-9.0) == (BELOW, STRONGEST)
    assert Ramp(0, 0, 0).shade(0) == (ABOVE, 0)
    one_sided = [Ramp(0.2, 0.8, 0.2).shade(v)[1] for v in (0.2, 0.4, 0.8)]
    assert one_sided == sorted(one_sided)


def test_every_number_is_written_or_hinted():
    matrix = cosine_matrix(FIFTEEN, CHOSEN, "ba")
    figure = matrix_figure(matrix)
    for layout, write in ((WIDE, lambda v: f"{v:.2f}"), (NARROW, lambda v: f"{100 * v:.0f}")):
        svg = figure.svg(layout)
        found = texts(svg)
        for row in matrix.values:
            for value in row:
                if not math.isnan(value):
                    assert write(value).replace("-0.00", "0.00").replace("-", "−") in found
        assert len(re.findall(r'class="hatch" fill', svg)) == 29 + 1  # and one in the legend
        assert "ba, ba: missing" in hints(svg)
    assert "29 numbers missing (too few refusals for a direction)" in figure.caption
    # Too many languages for numbers on a phone: hints and the table have them.
    many = (*FIFTEEN, "he", "hi", "fa", "am", "si", "tg", "it", "pl")
    wide = cosine_matrix(many, CHOSEN)
    svg = matrix_figure(wide).svg(NARROW)
    assert "100" not in texts(svg)
    assert len([h for h in hints(svg) if re.match(r"\w+, \w+: ", h)]) == 23 * 23
    assert len(matrix_figure(wide).tables[0].rows) == 23


def test_rows_and_columns_stand_where_they_belong():
    """The cell of (row, column) lies at the row's name and the column's code."""
    matrix = dataclasses.replace(
        cosine_matrix(THREE, 3), values=[[0.11, 0.12, 0.13], [0.21, 0.22, 0.23], [0.31, 0.32, 0.33]]
    )
    svg = matrix_figure(matrix).svg(WIDE)
    place = {
        t: (float(x), float(y))
        for x, y, t in re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)<', svg)
    }
    names = ["English (en)", "Korean (ko)", "Yoruba (yo)"]
    for i, name in enumerate(names):
        for j, code in enumerate(THREE):
            x, y = place[f"0.{i + 1}{j + 1}"]
            assert abs(y - place[name][1]) < 4
            assert abs(x - place[code][0]) < 4


def test_marks_are_drawn_counted_and_in_the_table():
    matrix = transfer_matrix(FIFTEEN)
    assert matrix.marked is not None
    n = int(np.sum(matrix.marked))
    assert n > 100
    for layout in LAYOUTS:
        svg = matrix_figure(matrix).svg(layout)
        assert len([h for h in hints(svg) if h.endswith("exceeds every control")]) == n
        assert len(re.findall(r'<path class="ink" d="M[\d.]+,[\d.]+v', svg)) == n
        for control in ("random", "shuffled", "identity", "Controls"):
            assert control in texts(svg)
    table = matrix_figure(matrix).tables[0]
    assert sum(cell.endswith("*") for row in table.rows for cell in row) == n
    words = matrix_words(matrix)
    assert f"{n} numbers marked (exceeds every control)" in words
    assert "random" not in words


def test_matrix_words_leave_out_the_diagonal():
    values = [[1.0, 0.2, 0.4], [0.2, 1.0, math.nan], [0.4, math.nan, 1.0]]
    matrix = dataclasses.replace(cosine_matrix(THREE, 3), values=values)
    words = matrix_words(matrix)
    assert "0.30 on average" in words
    assert "from 0.20 (" in words
    assert "to 0.40 (" in words
    alone = dataclasses.replace(cosine_matrix(("en",), 3), values=[[1.0]])
    assert matrix_words(alone) == ""


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 x 2 numbers for 3 rows and 3 columns"):
        dataclasses.replace(cosine_matrix(THREE, 3), values=[[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="marks of"):
        dataclasses.replace(cosine_matrix(THREE, 3), marked=[[True]])
    with pytest.raises(ValueError, match="at least one"):
        layers_figure([], "x", "X")


def test_small_multiples_say_which_layers_are_left_out():
    matrices = [(layer, cosine_matrix(THREE, layer)) for layer in LAYERS]
    figure = layers_figure(matrices, "cosines", "Cosines")
    shown = [t for t in texts(figure.svg(WIDE)) if t.startswith("Layer ")]
    assert len(shown) == 12
    assert shown[0] == "Layer 0"
    assert shown[-1] == f"Layer {LAYERS[-1]}"
    assert f"{len(LAYERS) - 12} layers between them left out" in figure.caption
    few = layers_figure(matrices[:3], "cosines", "Cosines")
    assert "left out" not in few.caption
    assert len(few.tables) == 3


def test_languages_are_grouped_by_tier():
    found = groups_of(("yo", "xx", "en", "ko", "de"), {"yo": "low", "en": "high", "de": "high",
                                                      "ko": "mid"})  # fmt: skip
    assert [(g.tier, g.languages) for g in found] == [
        ("high", ("en", "de")), ("mid", ("ko",)), ("low", ("yo",)), ("unlisted", ("xx",))
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------
# maps, profiles, projections


def test_the_chosen_candidate_is_ringed_and_others_are_dimmed():
    maps = build_maps()
    assert maps.kept is not None
    n_kept = int(np.sum(maps.kept))
    for layout in LAYOUTS:
        svg = maps_figure(maps).svg(layout)
        assert len(re.findall(r'<rect class="ring"', svg)) == 3  # one a map that was computed
        assert len([h for h in hints(svg) if h.endswith(", chosen")]) == 3
        out = [h for h in hints(svg) if h.endswith(", filtered out")]
        not_computed = [h for h in hints(svg) if h.endswith(": not computed")]
        assert len(not_computed) == 2 * len(maps.positions)
        assert len(out) + len(not_computed) == 3 * (len(maps.positions) * len(LAYERS) - n_kept)
        assert "not computed: no filter needs it" in texts(svg)
        small = re.findall(r'width="([\d.]+)"[^>]*><title>[^<]*, filtered out', svg)
        full = re.findall(r'width="([\d.]+)"[^>]*><title>[^<]*\d(?:, chosen)?<', svg)
        assert max(map(float, small)) < min(map(float, full))
    assert maps_words(maps).startswith(f"Candidates in English: {n_kept} of 120 candidates passed")


def test_the_ring_is_at_the_chosen_cell():
    maps = dataclasses.replace(build_maps(), chosen=(1, 7))
    svg = maps_figure(maps).svg(WIDE)
    ring = re.search(r'<rect class="ring" x="([\d.]+)" y="([\d.]+)"', svg)
    cell = re.search(r'x="([\d.]+)" y="([\d.]+)"[^>]*><title>\\n, layer 7: [^<]*chosen', svg)
    assert ring is not None
    assert cell is not None
    # A dimmed cell is small and lies in the middle of its place.
    assert 0 < float(cell[1]) - float(ring[1]) < 15
    assert 0 < float(cell[2]) - float(ring[2]) < 15


def test_no_candidate_and_no_score_are_said():
    maps = build_maps()
    none = dataclasses.replace(
        maps, chosen=None, kept=[[False] * len(LAYERS)] * len(maps.positions)
    )
    assert "No candidate passed every filter" in maps_figure(none).caption
    assert maps_words(none).endswith("none is chosen.")
    bare = Maps("m", "M", ("a",), (0, 1), (ScoreMap("KL", None, "lower", reason="not asked"),))
    assert "not computed: not asked" in texts(maps_figure(bare).svg(NARROW))
    assert maps_figure(bare).tables == ()
    with pytest.raises(ValueError, match="outside"):
        dataclasses.replace(maps, chosen=(9, 0))
    with pytest.raises(ValueError, match="numbers for"):
        Maps("m", "M", ("a",), (0, 1), (ScoreMap("KL", [[1.0]], "lower"),))


def test_a_few_huge_scores_do_not_blanch_the_rest():
    values = [[0.01 * i for i in range(98)] + [500.0, 900.0]]
    ramp = ramp_of(ScoreMap("KL", values, "lower", border=0.1))
    assert ramp is not None
    assert ramp.high == pytest.approx(0.4)
    both = ramp_of(ScoreMap("Bypass", [[-3.0, 0.0, 2.0]], "lower"))
    assert both == Ramp(-3.0, 2.0, 0.0)
    below = ramp_of(ScoreMap("Bypass", [[-3.0, -2.0]], "lower"))
    assert below is not None
    assert below.shade(-3.0)[1] > below.shade(-2.0)[1]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["wide", "narrow"])
def test_profiles_have_a_line_per_language_and_name_the_worst(layout):
    profiles = build_profiles(FIFTEEN)
    svg = profile_figure(profiles, groups(FIFTEEN), "p", "P").svg(layout)
    lines = re.findall(r'<path class="curve s\d"[^>]*><title>([^:]+): ', svg)
    assert len(lines) == 4 * 15 - 1  # Bashkir has no U-score
    named = texts(svg)
    for profile in profiles:
        at = profile.layers.index(CHOSEN)
        known = {c: v[at] for c, v in profile.series.items() if not math.isnan(v[at])}
        slow = sorted(known, key=lambda c: known[c])[:3]
        assert profile.worst_languages() == slow
        assert all(language_name(c) in named for c in slow)
    ys = [float(y) for y in re.findall(r'y="([\d.]+)" class="small">(?:Swahili|Khmer|Yoruba)', svg)]
    assert len(ys) >= 4


def test_gaps_stay_gaps_and_lone_values_are_points():
    nan = math.nan
    profile = Profile("p", "P", (0, 1, 2, 3), {"en": [0.1, 0.2, nan, 0.4], "yo": [nan] * 4}, 0, 1)
    svg = profile_figure([profile], groups(("en", "yo")), "p", "P").svg(WIDE)
    path = re.search(r'<path class="curve s5" d="([^"]+)"[^>]*><title>English', svg)
    assert path is not None
    assert path[1].count("M") == 2
    assert path[1].count("L") == 1
    assert len(re.findall(r'<circle class="s5"', svg)) == 1
    assert "Not measured: Yoruba" in profile_figure([profile], groups(("yo",)), "p", "P").caption
    with pytest.raises(ValueError, match="3 values in en for 2 layers"):
        Profile("p", "P", (0, 1), {"en": [0.1, 0.2, 0.3]}, 0, 1)
    assert "worst in" not in profile_words(profile)
    high = dataclasses.replace(
        profile, series={"en": [0.1] * 4, "yo": [0.3] * 4}, worst="high", chosen=(2,)
    )
    assert "worst in Yoruba (0.30), best in English (0.10)" in profile_words(high)


def test_names_of_lines_that_end_together_do_not_overlap():
    series = {c: [0.0, 0.0] for c in ("en", "ko", "yo")}
    profile = Profile("p", "P", (0, 1), series, 0.0, 1.0)
    svg = profile_figure([profile], groups(THREE), "p", "P").svg(NARROW)
    ys = sorted(
        float(y) for y in re.findall(r'y="([\d.]+)" class="small">(?:English|Korean|Yoruba)', svg)
    )
    assert len(ys) == 3
    assert min(b - a for a, b in itertools.pairwise(ys)) >= 12


def test_projections_have_a_panel_per_language_on_the_same_axes():
    projection = build_projection(FIFTEEN)
    figure = projection_figure(projection, groups(FIFTEEN))
    for layout in LAYOUTS:
        svg = figure.svg(layout)
        for code in FIFTEEN:
            assert language_name(code) in texts(svg)
        assert texts(svg).count("not measured") == 1
        squares = re.findall(r'<path class="harmful" d="([^"]+)" fill-opacity', svg)
        assert len(squares) == 14
        assert all(s.count("M") == 120 for s in squares)
    assert "34\u202f% of the variance" in figure.caption
    assert "Not measured: Yoruba." in figure.caption
    # The axes are shared: English centres, drawn as crosses, lie at one place in every panel.
    crosses = re.findall(r'translate\(([\d.]+),([\d.]+)\)"><title>en, harmful', figure.svg(NARROW))
    assert len(crosses) == 13


def test_centres_are_the_means_of_all_points():
    cloud = Cloud([0.0, 2.0, 5.0, math.inf], [1.0, 3.0, 9.0, 0.0], [True, True, False, True])
    assert cloud.centre(True) == (1.0, 2.0)
    assert cloud.centre(False) == (5.0, 9.0)
    assert Cloud([], [], []).centre(True) is None
    with pytest.raises(ValueError, match="2, 1 and 1"):
        Cloud([0.0, 1.0], [0.0], [True])
    empty = Projection("p", "P", {"en": Cloud([], [], [])})
    with pytest.raises(ValueError, match="no point"):
        projection_figure(empty, groups(("en",)))


def test_many_points_are_thinned_and_it_is_said():
    n = 1000
    rng = np.random.default_rng(0)
    cloud = Cloud(rng.normal(size=n).tolist(), rng.normal(size=n).tolist(), [True] * n)
    figure = projection_figure(Projection("p", "P", {"en": cloud}), groups(("en",)))
    path = re.search(r'<path class="harmful" d="([^"]+)" fill-opacity', figure.svg(WIDE))
    assert path is not None
    assert path[1].count("M") == 150
    assert "At most 150 points of a class are drawn; centres use all 1000" in figure.caption


def test_projection_words_compare_with_the_reference():
    def apart(d: float) -> Cloud:
        return Cloud([0.0, d], [0.0, 0.0], [False, True])

    projection = Projection(
        "p", "Prompts", {"en": apart(4.0), "yo": apart(1.0)}, reference="en", shares=(0.3, 0.1)
    )
    assert projection_words(projection) == (
        "Prompts: the axes hold 40\u202f% of the variance; the centres of the two classes lie "
        "nearest in Yoruba (25\u202f% as far apart as in English)."
    )
