"""Imports go down only, and the help imports nothing heavy."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pipeline"

# From the ground up: a room imports from itself and from those before it, however that is written.
ROOMS = (
    *("common", "tools", "made", "spec", "intake", "bases"),
    *("stages", "run", "release", "evaluation", "chain", "plan", "going_live", "make", "cli"),
)
BESIDE = {"setup": {"common", "tools", "intake"}}  # runs before anything is installed
HEAVY = {
    *("torch", "transformers", "unsloth", "trl", "peft", "llama_cpp", "gguf", "pyarrow", "numpy"),
    *("numba", "llvmlite", "scipy"),
}
# Compiled as they are imported: each is imported by name inside the function that needs it.
COMPILED = ("kernels_", "float_bits", "locator")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(text: str, dotted: str) -> set[str]:
    """Dotted names of all that a module imports: nested, relative, by importlib, in a child.

    Args:
        dotted: the module's own name, which relative imports start from.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = dotted.split(".")[: -node.level] if node.level else []
            module = ".".join([*parts, *filter(None, [node.module])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = called or (node.func.id if isinstance(node.func, ast.Name) else "")
            if called in ("import_module", "__import__", "module", "run_module"):
                first = node.args[0]
                found |= {str(first.value)} if isinstance(first, ast.Constant) else set()
    return found


def forbidden(text: str, dotted: str) -> list[str]:
    """Imports that lead up, or into the set-up."""
    own = dotted.split(".")[1]
    allowed = BESIDE[own] | {own} if own in BESIDE else set(ROOMS[: ROOMS.index(own) + 1])
    names = {name for name in imports(text, dotted) if name.startswith("pipeline.")}
    names -= {"pipeline.__version__"}
    return sorted(name for name in names if name.split(".")[1] not in allowed)


def dotted_name(path: Path) -> str:
    return "pipeline." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    assert forbidden(path.read_text(), dotted_name(path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "from pipeline.release import publish",
        "import pipeline.cli.view",
        "def f():\n    from pipeline import chain",
        "from ..release.proof import prove",
        "from .. import release",
        "import importlib\nimportlib.import_module('pipeline.release.proof')",
        "Popen(children.module('pipeline.run.worker'))",
        "from pipeline.setup import run",
    ],
)
def test_it_sees_every_way_up(text: str) -> None:
    assert forbidden(text, "pipeline.stages.tune")
    assert not forbidden(
        "from .packing import tree\nfrom ..tools import gpu", "pipeline.stages.tune"
    )


def test_every_room_has_a_place_and_says_what_is_in_it() -> None:
    assert {room_of(path) for path in modules()} == {*ROOMS, *BESIDE}
    for room in (path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()):
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    if path.name.startswith(COMPILED):
        return
    tree = ast.parse(path.read_text())
    for node in tree.body:  # the top of the file only
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & HEAVY, path


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_compiled_is_imported_by_nothing_else(path: Path) -> None:
    if not path.name.startswith(COMPILED):
        found = imports(path.read_text(), dotted_name(path))
        names = {name.rpartition("packing.")[2] for name in found if "packing." in name}
        assert [name for name in names if name.startswith(COMPILED)] == []


@pytest.mark.parametrize("arguments", [["--help"], ["make", "--help"], ["list"]])
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    job = (
        "import sys; from pipeline.cli.commands import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", job, *arguments],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=True,
    )
    assert run.stderr.strip() == "[]"


def test_what_the_makefile_imports_is_there() -> None:
    text = (PACKAGE.parent / "Makefile").read_text()
    for module, names in re.findall(r"from (pipeline[\w.]*) import ([\w, ]+)", text):
        for name in names.split(", "):
            assert importlib.import_module(f"{module}.{name}")
