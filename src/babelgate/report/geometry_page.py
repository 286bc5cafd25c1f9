"""From the geometry and the breaks of a run folder to what the sections draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..breaks import Breaks
from ..geometry.results import Geometry
from ..geometry.rows import CosineMatrix, Parallelism, Skip
from ..languages import tier
from .figures_profile import Profile
from .figures_projection import Cloud, Projection
from .geometry_sections import GeometryPage, LayerMatrices, Skipped
from .matrices import Matrix, Ramp, groups_of

_POSITION = "t_post"
_KINDS = {
    "harmfulness": "harmful minus harmless",
    "refusal": "refused minus answered",
}


def geometry_page(breaks: Breaks | None, geometry: Geometry) -> GeometryPage:
    """Return the plain inputs of the page's figures."""
    languages = ordered(geometry.languages)
    chosen = sorted({p.layer for p in geometry.tables.projections})
    return GeometryPage(
        languages,
        breaks=breaks,
        profiles=tuple(_profiles(geometry, tuple(chosen))),
        cosines=tuple(_cosines(geometry, languages, chosen[-1] if chosen else None)),
        projections=tuple(_projections(geometry)),
        skipped=tuple(skipped(geometry.tables.skipped)),
    )


def ordered(languages: Sequence[str]) -> tuple[str, ...]:
    """Return languages by tier, in the order given within one."""
    groups = groups_of(tuple(languages), {x: tier(x) for x in languages})
    return tuple(x for group in groups for x in group.languages)


@dataclass(frozen=True)
class _Curve:
    """A number by layer: which rows hold it, and how to read them."""

    name: str
    title: str
    rows: Iterable[object]
    value: Callable[[object], float]
    low: float
    high: float
    reference: float | None = None
    reference_label: str = ""


def _profiles(geometry: Geometry, chosen: tuple[int, ...]) -> Iterable[Profile]:
    t = geometry.tables

    def at(rows: Iterable[object], position: str, **where: str) -> list[object]:
        return [
            r
            for r in rows
            if getattr(r, "position", None) == position
            and all(getattr(r, k) == v for k, v in where.items())
        ]

    curves = [
        _Curve(
            f"auroc-{position}",
            f"AUROC of harm on the sources’ direction, {place}",
            at(t.separability, position, direction="source"),
            lambda r: r.auroc.value,  # type: ignore[attr-defined]
            0.4, 1.0, 0.5, "chance",
        )
        for position, place in (("t_post", "last prompt token"), ("t_inst", "last text token"))
    ]  # fmt: skip
    curves += [
        _Curve(
            "own-auroc", "AUROC of harm on the language’s own direction",
            at(t.separability, _POSITION, direction="own"),
            lambda r: r.auroc.value, 0.4, 1.0, 0.5, "chance",  # type: ignore[attr-defined]
        ),
        _Curve(
            "length", "AUROC of harm with prompt length partialled out",
            at(t.lengths, _POSITION, direction="source"),
            lambda r: r.residual_auroc.value, 0.4, 1.0, 0.5, "chance",  # type: ignore[attr-defined]
        ),
        _Curve(
            "identified", "Translations found, language means removed",
            at(t.translation, _POSITION),
            lambda r: r.identified_centred.value, 0.0, 1.0,  # type: ignore[attr-defined]
        ),
        _Curve(
            "u-score", "U-score", at(t.translation, _POSITION),
            lambda r: r.u_raw, 0.0, 0.1,  # type: ignore[attr-defined]
        ),
        _Curve(
            "share", "Harmfulness inside the sources’ subspace",
            at(t.shares, _POSITION), _last_share, 0.0, 1.0,
        ),
        _Curve(
            "harm-refusal", "Cosine of harmfulness and refusal", at(t.harm_refusal, _POSITION),
            lambda r: r.overall, -1.0, 1.0, 0.0, "unrelated",  # type: ignore[attr-defined]
        ),
    ]  # fmt: skip
    for curve in curves:
        series = _series(curve, geometry.layers)
        if not series:
            continue
        values = [v for line in series.values() for v in line if not math.isnan(v)]
        low = min([curve.low, *values])
        yield Profile(
            curve.name, curve.title, geometry.layers, series, low, max([curve.high, *values]),
            curve.reference, curve.reference_label, chosen=chosen,
        )  # fmt: skip


def _last_share(row: object) -> float:
    known = [v for v in row.shares if not math.isnan(v)]  # type: ignore[attr-defined]
    return known[-1] if known else math.nan


def _series(curve: _Curve, layers: Sequence[int]) -> dict[str, list[float]]:
    place = {layer: i for i, layer in enumerate(layers)}
    found: dict[str, list[float]] = {}
    for row in curve.rows:
        line = found.setdefault(row.language, [math.nan] * len(layers))  # type: ignore[attr-defined]
        line[place[row.layer]] = curve.value(row)  # type: ignore[attr-defined]
    return {x: found[x] for x in ordered(tuple(found)) if any(not math.isnan(v) for v in found[x])}


def _cosines(
    geometry: Geometry, languages: Sequence[str], chosen: int | None
) -> Iterable[LayerMatrices]:
    for kind, words in _KINDS.items():
        rows = [r for r in geometry.tables.cosines if r.kind == kind and r.position == _POSITION]
        if rows:
            yield LayerMatrices(
                f"cosines-{kind}",
                f"Cosines between the languages’ {kind} directions",
                tuple((r.layer, _matrix(r, languages, kind)) for r in rows),
                chosen,
                f"Each direction is {words} at the last prompt token. Sampling noise lowers a "
                "cosine: directions from few prompts agree less than they would from many.",
            )
    rows = [r for r in geometry.tables.parallelism if r.position == _POSITION]
    if rows:
        yield LayerMatrices(
            "parallelism",
            "Parallelism: class differences on the prompts that two languages share",
            tuple((r.layer, _parallel(r, languages)) for r in rows),
            chosen,
            "Cosines of harmful minus harmless on translations of the same prompts.",
        )


def _parallel(row: Parallelism, languages: Sequence[str]) -> Matrix:
    title = f"Parallelism, block {row.layer}"
    return _square(f"parallelism-{row.layer}", title, row.languages, row.cosines, languages)


def _matrix(row: CosineMatrix, languages: Sequence[str], kind: str) -> Matrix:
    title = f"Cosines of {kind} directions, block {row.layer}"
    return _square(f"cosines-{kind}-{row.layer}", title, row.languages, row.cosines, languages)


def _square(
    name: str,
    title: str,
    codes: Sequence[str],
    values: Sequence[Sequence[float]],
    languages: Sequence[str],
) -> Matrix:
    place = {code: i for i, code in enumerate(codes)}
    known = [x for x in languages if x in place]
    own = [[values[place[a]][place[b]] for b in known] for a in known]
    known = [x for x, row in zip(known, own) if any(not math.isnan(v) for v in row)]
    groups = groups_of(tuple(known), {x: tier(x) for x in known})
    return Matrix(
        name,
        title,
        "language",
        "language",
        groups,
        groups,
        [[values[place[a]][place[b]] for b in known] for a in known],
        Ramp(-1.0, 1.0),
        missing="too few prompts of a side",
    )


def _projections(geometry: Geometry) -> Iterable[Projection]:
    for one in geometry.tables.projections:
        if one.position != _POSITION:
            continue
        pairs = [("pca", one.first, one.second, ("first component", "second component"))]
        if one.refusal:
            pairs.append(("harm-refusal", one.harmfulness, one.refusal, ("harmfulness", "refusal")))
        if one.language:
            pairs.append(
                ("harm-language", one.harmfulness, one.language, ("harmfulness", "language"))
            )
        for name, x, y, axes in pairs:
            if not x or not y:
                continue
            clouds = {
                code: Cloud(*_of_language(one.languages, code, x, y, one.harmful))
                for code in ordered(tuple(dict.fromkeys(one.languages)))
            }
            shares = (one.explained[0], one.explained[1]) if name == "pca" else None
            yield Projection(
                f"projection-{name}",
                f"Prompts at block {one.layer}: {axes[0]} and {axes[1]}",
                clouds,
                axes,
                shares,
                geometry.pivot if geometry.pivot in clouds else None,
            )


def _of_language(
    languages: Sequence[str], code: str, x: Sequence[float], y: Sequence[float], z: Sequence[bool]
) -> tuple[list[float], list[float], list[bool]]:
    rows = [i for i, own in enumerate(languages) if own == code]
    return [x[i] for i in rows], [y[i] for i in rows], [z[i] for i in rows]


_SKIPPED = {
    "refusal": "refusal directions",
    "refusal_harmful": "refusal directions among harmful prompts",
    "refusal_harmless": "refusal directions among harmless prompts",
    "harmfulness": "harmfulness directions",
}


def skipped(rows: Sequence[Skip]) -> Iterable[Skipped]:
    """Return what was not computed, one entry per analysis with each language's reason."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        codes = kinds.setdefault(row.kind, {}).setdefault(row.reason, [])
        if row.language is not None and row.language not in codes:
            codes.append(row.language)
    for kind, reasons in kinds.items():
        parts = [f"{', '.join(codes)}: {why}" if codes else why for why, codes in reasons.items()]
        yield Skipped(_SKIPPED.get(kind, kind.replace("_", " ")), "; ".join(parts))
