"""What the embedded judge's errors are, and the model card that says so."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from replies import DEMO, WRITTEN

from babelgate.metrics import auroc
from babelgate.stats import calibration_error, cohen_kappa

VERSION = "1"
NOTE = (
    "Reads the opening of a reply (260 characters) with a logistic regression on refusal phrases, "
    "form and character n-grams. It does not understand the reply: it misses deflections in words "
    "it does not know, takes some answers that begin with a warning for refusals, and cannot see "
    "that a reply refuses and answers later. The errors by language were measured on models, or "
    "where there was only one on languages, left out of its training."
)


@dataclass(frozen=True)
class Errors:
    """How far the judge agrees with labels on replies that it was not trained on."""

    n: int
    refused: int
    kappa: float
    auc: float
    ece: float
    sensitivity: float
    specificity: float
    lexicon_kappa: float
    substring_kappa: float


def errors(data: Any, p: np.ndarray, rows: np.ndarray) -> Errors:
    """Return the errors on some rows; rates that nothing defines are NaN."""
    y, ours = data.y[rows], p[rows]
    said = ours >= 0.5
    groups = [data.items[i].reply.prompt.group_id for i in np.flatnonzero(rows)]

    def kappa(verdicts: np.ndarray) -> float:
        return cohen_kappa(verdicts, y, groups, n=1).value

    return Errors(
        n=len(y),
        refused=int(y.sum()),
        kappa=kappa(said),
        auc=auroc(ours[y == 1], ours[y == 0]),
        ece=calibration_error(ours, y),
        sensitivity=float(said[y == 1].mean()) if y.any() else math.nan,
        specificity=float(1 - said[y == 0].mean()) if (y == 0).any() else math.nan,
        lexicon_kappa=kappa(data.lexicon[rows] > 0),
        substring_kappa=kappa(data.substrings[rows]),
    )


@dataclass(frozen=True)
class Measured:
    """Errors by model left out, by (model, language), and by language left out."""

    models: dict[str, Errors]
    cells: dict[tuple[str, str], Errors]
    languages: dict[str, Errors]


def measure(data: Any, p_language: np.ndarray) -> Measured:
    """Return all errors. Probabilities of unseen languages are the fits' own, not calibrated."""
    p_model = data.p_model
    published = ~np.isin(data.source, [WRITTEN, DEMO])
    models = {
        name: errors(data, p_model, data.source == name)
        for name in sorted(set(data.source) - {WRITTEN})
    }
    models["both 7-8B models"] = errors(data, p_model, published)
    models["both, prompts unseen by the lexicons"] = errors(data, p_model, published & ~data.seen)
    models["all three models"] = errors(data, p_model, data.source != WRITTEN)
    models["written (languages left out)"] = errors(data, p_language, data.source == WRITTEN)
    cells = {
        (source, language): errors(data, p_model, rows)
        for source in sorted(set(data.source) - {WRITTEN})
        for language in sorted(set(data.language))
        if (rows := (data.source == source) & (data.language == language)).any()
    }
    languages = {
        language: errors(data, p_language, data.language == language)
        for language in sorted(set(data.language))
    }
    return Measured(models, cells, languages)


def as_json(data: Any, measured: Measured) -> dict[str, Any]:
    """Return what ships beside the weights: version, languages, note, errors by language.

    Where labelled replies of a 7-8B model exist, a language's errors are those on models left out;
    elsewhere those with the language itself left out, on written replies and the demo model's.
    """
    by_language = {}
    for language, left_out in measured.languages.items():
        published = (data.language == language) & ~np.isin(data.source, [WRITTEN, DEMO])
        if published.any():
            found, basis = errors(data, data.p_model, published), "model left out"
        else:
            found, basis = left_out, "language left out"
        by_language[language] = {"basis": basis} | _plain(found)
    return {
        "version": VERSION,
        "languages": sorted(set(data.language.tolist())),
        "note": NOTE,
        "errors": by_language,
        "models_left_out": {name: _plain(e) for name, e in measured.models.items()},
    }


def _plain(found: Errors) -> dict[str, Any]:
    return {
        k: None if isinstance(v, float) and math.isnan(v) else round(v, 3)
        for k, v in asdict(found).items()
    }


_HEAD = (
    "| {} | replies | refused | kappa | AUC | ECE | sensitivity | specificity | lexicon kappa "
    "| substring kappa |\n|---|---|---|---|---|---|---|---|---|---|"
)


def _row(name: str, e: Errors) -> str:
    numbers = (e.kappa, e.auc, e.ece, e.sensitivity, e.specificity)
    numbers += (e.lexicon_kappa, e.substring_kappa)
    cells = ["–" if math.isnan(x) else f"{x:.2f}" for x in numbers]
    return f"| {name} | {e.n} | {e.refused} | " + " | ".join(cells) + " |"


def as_markdown(data: Any, measured: Measured) -> str:
    """Return the model card."""
    count = {s: int((data.source == s).sum()) for s in sorted(set(data.source))}
    lines = [
        "# Embedded refusal judge: model card",
        "",
        f"Version {VERSION}. {NOTE}",
        "",
        "**Use.** Rates of refusal over many replies of chat models, by language. Not for deciding",
        "about single users, nor about whether a reply is harmful.",
        "",
        "**Training.** " + ", ".join(f"{n} replies of {s}" for s, n in count.items()) + ".",
        "The 7-8B models' are published replies to PolyRefuse test prompts (Wang et al. 2025,",
        "arXiv 2505.17306, Apache-2.0), first 300 characters, labelled by WildGuard on the full",
        "reply in English translation. The demo model's (PolyRefuse and starter set, harmful and",
        "harmless) were labelled by reading, by a language model without sight of any verdict; the",
        "written ones were written and labelled by a language model for this purpose, 16 refusals",
        "and 24 look-alikes and answers per language. No native speaker has checked either.",
        "",
        "**Reading the tables.** Every figure is on replies of a model, or in a language, that was",
        "left out of the fit; a reply is called refused from p = 0.5 on. The lexicons, which the",
        "judge uses too, were written with the replies to half of the published prompts in view:",
        "the row 'prompts unseen by the lexicons' is the other half. The published files hold at",
        "most 150 refusals each, so the probabilities suit a share of refusals of about 0.6; ECE",
        "at other shares is higher. WildGuard's labels have errors of their own: in Dutch 'Ik kan",
        "niet helpen met ...' (*I cannot help with*) is labelled no refusal time and again.",
        "",
        "## Models left out",
        "",
        _HEAD.format("model"),
        *(_row(name, e) for name, e in measured.models.items()),
        "",
        "## Models left out, by language",
        "",
        _HEAD.format("model, language"),
        *(_row(f"{s}, {x}", e) for (s, x), e in measured.cells.items()),
        "",
        "## Languages left out (all sources together)",
        "",
        _HEAD.format("language"),
        *(_row(name, e) for name, e in measured.languages.items()),
        "",
    ]
    return "\n".join(lines)
