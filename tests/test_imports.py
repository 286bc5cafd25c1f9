"""The direction of imports, read from the source: what may know what.

``Modules.reach`` follows imports of ours wherever they stand, inside functions too; ``at_once``
only those that run when a module is imported.
"""

import ast
import sys
from pathlib import Path

import pytest

import babelgate

ROOT = Path(babelgate.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the module's name below the package: ``models.loading``; ``""`` for the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {name_of(p): ast.parse(p.read_text(encoding="utf-8")) for p in FILES}
PACKAGES = {name_of(p) for p in FILES if p.name == "__init__.py"}


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(tree: ast.AST, *, functions: bool):
    """Yield import statements; those inside functions only on request, type hints' never."""
    for node in ast.iter_child_nodes(tree):
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if for_types_only(node) or (inside and not functions):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        yield from statements(node, functions=functions)


def imported(module: str, *, functions: bool = True) -> set[str]:
    """Return what a module imports: ours as ``.name`` below the package, others by top name."""
    found = set()
    for node in statements(TREES[module], functions=functions):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:
                here = module.split(".") if module else []
                up = node.level - (module in PACKAGES)
                kept = here[: len(here) - up] if up else here
                base = ".".join(["babelgate", *kept, *([base] if base else [])])
            # `from . import fit` names a module, `from .fit import Fitter` a value of one.
            names = [f"{base}.{alias.name}" for alias in node.names]
            names = [n if n.removeprefix("babelgate.") in TREES else base for n in names]
        for name in names:
            top, _, rest = name.partition(".")
            found.add(f".{rest}" if top == "babelgate" else top)
    return found


def parents(name: str) -> set[str]:
    """Packages whose ``__init__`` runs when a module of theirs is imported."""
    parts = name.split(".")
    return {".".join(parts[:i]) for i in range(1, len(parts))}


def reach(module: str, *, functions: bool = True) -> set[str]:
    """Return everything that a module imports, itself or through modules of ours."""
    seen: set[str] = set()
    todo = [module, *parents(module)]
    while todo:
        for name in imported(todo.pop(), functions=functions) - seen:
            seen.add(name)
            if name.startswith("."):
                own = name[1:]
                todo += [m for m in {own, *parents(own)} if m in TREES]
    return seen


def ours(names: set[str]) -> set[str]:
    return {n for n in names if n.startswith(".")}


def below(names: set[str], *packages: str) -> set[str]:
    """Return the names that are these modules or lie in these packages."""
    return {n for n in names if any(n == f".{p}" or n.startswith(f".{p}.") for p in packages)}


def members(package: str) -> list[str]:
    return [m for m in TREES if m == package or m.startswith(f"{package}.")]


# ---------------------------------------------------------------------------------------------
# the walk itself


def test_every_module_is_visited():
    assert len(FILES) == len(TREES) == sum(1 for _ in ROOT.glob("**/*.py"))
    assert len(TREES) >= 80
    assert {"", "types", "cli", "models", "models.loading", "report.page"} <= set(TREES)
    assert {"", "models", "prompts", "judges", "report", "interventions"} <= PACKAGES
    imports = sum(len(imported(m)) for m in TREES)
    assert imports > 400


def test_the_walk_sees_what_there_is():
    """Known imports of each form: relative, of a module, from a parent, inside a function."""
    assert ".errors" in imported("types")
    assert ".calibration" in imported("recipes")
    assert ".rates" in imported("evaluation")
    assert ".types" in imported("prompts.jsonl")
    assert ".judges.outcomes" in imported("judges.lexicon_judge")
    assert ".models.loading" in imported("cli")
    assert ".models.loading" not in imported("cli", functions=False)
    assert "difflib" in imported("errors")
    assert "difflib" not in imported("errors", functions=False)
    assert {"torch", "transformers"} <= reach("recipes")
    # Names for type checkers are not imports.
    assert imported("") == {"__future__", "importlib", "typing", "._version"}


@pytest.mark.parametrize("module", [m for m in TREES if m])
def test_imports_of_ours_lead_somewhere(module):
    assert {n for n in ours(imported(module)) if n[1:] not in TREES and n != "."} == set()


# ---------------------------------------------------------------------------------------------
# the rules


def test_types_and_errors_stand_alone():
    assert ours(reach("errors")) == set()
    assert ours(reach("types")) == {".errors"}
    for module in ("types", "errors"):
        others = {n for n in reach(module) if not n.startswith(".")}
        assert others <= set(sys.stdlib_module_names) | {"__future__"}


PURE = (
    "directions", "gate", "thresholds", "stats", "metrics", "probe", "fit", "fit_data",
    "rivals.adasteer", "rivals.cast", "rivals.omniguard", "rivals.probes", "rivals.components",
    "threshold_mixture",
    "threshold_bound", "threshold_batches", "threshold_curve", "probe_stack", "threshold_study", "breaks",
    "geometry.driver", "action_strata", "transfer.sources",
)  # fmt: skip


@pytest.mark.parametrize("module", PURE)
def test_the_mathematics_knows_no_models_and_no_files(module):
    found = reach(module)
    assert not found & {"transformers", "tokenizers", "safetensors", "pathlib", "os", "io"}
    assert below(found, "artifacts", "store", "gate_file", "models", "capture", "results") == set()
    assert below(found, "interventions", "judges", "report", "prompts", "console") == set()


@pytest.mark.parametrize("module", ["thresholds", "stats", "metrics", "probe", "rivals.probes"])
def test_statistics_need_no_torch(module):
    assert "torch" not in reach(module)


def test_only_the_comparison_itself_compares_in_thresholds():
    """The rest of the module calls ``fires``: no second definition of the decision."""
    functions = [n for n in ast.walk(TREES["thresholds"]) if isinstance(n, ast.FunctionDef)]
    names = {f.name for f in functions}
    assert {"fires", "paper_rule", "source_rule"} <= names
    for function in functions:
        if function.name in ("paper_rule", "source_rule"):
            calls = {ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
            assert any("fires" in call for call in calls)


def test_interventions_never_import_models():
    modules = members("interventions")
    assert len(modules) >= 4
    for module in modules:
        assert below(reach(module), "models", "capture", "generate", "recipes") == set(), module
        assert "transformers" not in reach(module), module


def test_judges_never_import_interventions():
    modules = members("judges")
    assert len(modules) >= 6
    for module in modules:
        found = reach(module)
        assert below(found, "interventions", "gate", "recipes", "generate") == set(), module
        # A guard is a model; every other judge knows of none.
        if not module.startswith("judges.guards") and module != "judges.choosing":
            assert below(found, "models") == set(), module


def test_the_report_reads_artifacts_only():
    modules = members("report")
    assert len(modules) >= 20
    for module in modules:
        found = reach(module)
        assert not found & {"torch", "transformers", "tokenizers"}, module
        assert below(found, "models", "capture", "interventions", "recipes", "fit") == set(), module


def test_nobody_imports_upwards():
    """``cli -> api -> comparing.run -> recipes -> the rest``."""
    above = {
        "cli": set(),
        "api": {"", "cli"},
        "comparing.run": {"cli", "api"},
        "recipes": {"cli", "api", "comparing.run"},
        "diagnosing.run": {"cli", "api"},
        "directing.run": {"cli", "api"},
    }
    checked = 0
    for module in TREES:
        if module == "__main__":
            continue
        for top, allowed in above.items():
            if module not in allowed | {top}:
                assert below(imported(module), top) == set(), module
                checked += 1
    assert checked > 200


HEAVY = {
    "torch", "transformers", "tokenizers", "safetensors", "accelerate", "numpy", "scipy", "gguf",
    "jinja2", "httpx", "datasets", "py3langid", "uroman",
}  # fmt: skip


@pytest.mark.parametrize(
    "module", ["", "cli", "__main__", "config", "console", "languages", "errors"]
)
def test_what_help_needs_is_light(module):
    assert not reach(module, functions=False) & HEAVY


def test_the_command_line_imports_nothing_of_ours_but_text():
    found = ours(imported("cli", functions=False))
    assert found == {"._version", ".console", ".errors"}


def test_every_public_name_of_the_package_exists():
    assert len(babelgate.__all__) == 11
    for name, home in babelgate._HOMES.items():
        tree = TREES[home.lstrip(".")]
        defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        passed_on = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom)
                     for a in n.names}  # fmt: skip
        assert name in defined | passed_on, name
        assert name in babelgate.__all__
    with pytest.raises(AttributeError, match="nothing"):
        _ = babelgate.nothing
