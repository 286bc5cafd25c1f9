"""The sections on activation space: what breaks where, geometry, selected directions, transfer."""

from __future__ import annotations

from dataclasses import replace

from .direction_sections import (
    native_section,
    not_selected,
    selected_words,
    selection_maps,
    selection_table,
    transfer_matrices,
)
from .geometry_page import geometry_page, ordered
from .geometry_sections import GeometryPage, geometry_sections, geometry_summary, matrix_words
from .load_studies import DirectedFolder, Studies
from .sections import Section


def shown_studies(studies: Studies) -> tuple[list[Section], list[str]]:
    """Return the sections that there are numbers for, and their opening paragraphs."""
    page = _page(studies)
    return _sections(studies, page), _summary(studies, page)


def _sections(studies: Studies, page: GeometryPage) -> list[Section]:
    directed = studies.directed
    found: list[Section] = []
    for section in geometry_sections(page):
        if section.key == "selection" and directed is not None:
            tables = (selection_table(directed.selections), *section.tables)
            found.append(replace(section, tables=tables))
            continue
        found.append(section)
        if section.key == "transfer" and directed is not None and directed.transfer is not None:
            native = native_section(directed.transfer)
            found += [] if native is None else [native]
    return found


def _summary(studies: Studies, page: GeometryPage) -> list[str]:
    found: list[str] = []
    if studies.diagnosed is not None:
        found += geometry_summary(page)
    if studies.directed is not None:
        found.append(selected_words(studies.directed.selections))
        found += dict.fromkeys(matrix_words(m) for m in page.transfers[:2])
    return [words for words in found if words]


def _page(studies: Studies) -> GeometryPage:
    diagnosed, directed = studies.diagnosed, studies.directed
    own = GeometryPage(_languages(directed))
    if diagnosed is not None:
        own = geometry_page(diagnosed.breaks, diagnosed.geometry)
    if directed is None:
        return own
    transfer = directed.transfer
    return replace(
        own,
        languages=ordered(tuple(dict.fromkeys((*own.languages, *_languages(directed))))),
        transfers=() if transfer is None else tuple(transfer_matrices(transfer)),
        maps=tuple(selection_maps(directed.selections)),
        skipped=(*own.skipped, *not_selected(directed.selections)),
    )


def _languages(directed: DirectedFolder | None) -> tuple[str, ...]:
    return () if directed is None else ordered(tuple(s.language for s in directed.selections))
