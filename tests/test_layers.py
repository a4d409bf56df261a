"""Imports go down only, and the help imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pipeline"

# Higher layers may import lower ones, and a layer's own modules each other.
LAYERS = {
    "cli": 5,
    "view": 5,
    "chain": 4,
    "plan": 4,
    "store": 3,
    "engine": 3,
    "child_process": 3,
    "worker": 3,
    "release": 3,
    "released": 3,
    "proof": 3,
    "promise": 3,
    "lease": 3,
    "promotion": 3,
    "candidate": 3,
    "probes": 3,
    "stored": 3,
    "stages": 2,
    "stage": 1,
    "spec": 1,
    "settings": 1,
    "conversations": 0,
    "fields": 0,
    "turns": 0,
    "shapes": 0,
    "markers": 0,
    "lines": 0,
    "source": 1,
    "reference": 1,
    "checkpoint": 1,
    "own_template": 1,
    "architecture": 1,
    "known_keys": 1,
    "digests": 1,
    "device": 1,
    "artifacts": 1,
    "records": 1,
    "sealed": 1,
    "modelfile": 1,
    "grammar": 1,
    "parameters": 1,
    "names": 1,
    "template": 1,
    "tools": 1,
    "setup": 1,
    "errors": 0,
    "values": 0,
    "foreign": 0,
    "places": 0,
    "private": 0,
}
HEAVY = {
    *("torch", "transformers", "unsloth", "trl", "peft", "llama_cpp", "gguf", "pyarrow", "numpy"),
    *("numba", "llvmlite"),
}
# Compiled as they are imported: each is imported by name inside the function that needs it.
COMPILED = ("kernels_", "float_bits", "locator")


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def layer_of(dotted: str) -> int:
    parts = dotted.split(".")
    return LAYERS[parts[1]]


def imports(path: Path) -> list[str]:
    """Dotted names of every import in a file, nested ones too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = layer_of("pipeline." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    for name in imports(path):
        if name.startswith("pipeline.") and name != "pipeline.__version__":
            assert layer_of(name) <= own, f"{path.name} imports {name}"


def test_every_module_has_a_layer() -> None:
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert names == set(LAYERS)


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
        names = {name.rpartition("packing.")[2] for name in imports(path) if "packing." in name}
        assert [name for name in names if name.startswith(COMPILED)] == []


@pytest.mark.parametrize("arguments", [["--help"], ["make", "--help"], ["list"]])
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    job = (
        "import sys; from pipeline.cli import main\n"
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
