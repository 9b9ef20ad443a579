"""The package's floors: imports go down, never in a circle, and a library stays in its rooms."""

import ast
import functools
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "wsol_jax"
# From the top: a room imports from itself and from the floors below its own.
FLOORS = (
    ("main", "crf", "compare"),
    ("api",),
    ("stages",),
    ("report",),
    ("evaluate",),
    ("runs",),
    ("explain",),
    ("methods",),
    ("losses", "networks", "data"),
    ("ops", "metrics"),
    ("base",),
)


def name_of(path):
    """wsol_jax.ops.cam of .../wsol_jax/ops/cam.py, wsol_jax.ops of its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def imports(path):
    """[(line, module, name or None)] of every import of a file, those within functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: a relative import"
            found += [(node.lineno, node.module, alias.name) for alias in node.names]
    return found


@functools.cache
def edges():
    """{module: {imported module of the package: line}}; of a package, the very module meant."""
    found = {}
    for module, path in FILES.items():
        targets = found.setdefault(module, {})
        for line, target, name in imports(path):
            target = f"{target}.{name}" if f"{target}.{name}" in FILES else target
            if target.split(".")[0] == PACKAGE.name:
                assert target in FILES, f"{path}, line {line}: no module {target}"
                targets.setdefault(target, line)
    return found


def room(module):
    """The first name below the package; the package itself, a version, is below all."""
    return module.split(".")[1] if "." in module else ""


def reached(module):
    """All modules that importing ``module`` and calling its functions may import."""
    found, left = set(), [module]
    while left:
        for target in edges()[left.pop()]:
            if target not in found:
                found.add(target)
                left.append(target)
    return found


def test_every_room_has_a_floor():
    on_disk = {room(module) for module in FILES} - {""}
    assert on_disk <= {name for floor in FLOORS for name in floor}


def test_nothing_imports_upward():
    """Nor does a room import from another of its own floor."""
    height = {name: -at for at, floor in enumerate(FLOORS) for name in floor}
    upward = [
        f"{FILES[module].relative_to(ROOT)}:{line} imports {target}"
        for module, targets in edges().items()
        for target, line in targets.items()
        if room(target) and room(module) != room(target)
        if not room(module) or height[room(target)] >= height[room(module)]
    ]
    assert not upward, "\n".join(upward)


def test_no_module_imports_itself_by_a_detour():
    try:
        list(graphlib.TopologicalSorter(edges()).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_root_is_no_corridor():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__init__.py", "__pycache__"}
    assert len(entries) <= 17, sorted(entries)


def test_flax_stays_in_networks_methods_and_state():
    outside = [
        f"{path.relative_to(ROOT)}:{line}"
        for module, path in FILES.items()
        if room(module) not in ("networks", "methods") and module != "wsol_jax.runs.state"
        for line, target, _ in imports(path)
        if target.split(".")[0] == "flax"
    ]
    assert not outside, outside


def test_no_tensorflow():
    folders = [ROOT / name for name in ("wsol_jax", "configs", "benchmarks", "tests")]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in folders
        for path in folder.rglob("*.py")
        for line, target, _ in imports(path)
        if target.split(".")[0] == "tensorflow"
    ]
    assert not found, found


def test_the_loop_reaches_no_report():
    pages = {module for module in reached("wsol_jax.stages.train") if room(module) == "report"}
    assert not pages, sorted(pages)


def test_no_test_imports_a_test():
    """What several tests use stands in tests/helpers, or beside them."""
    paths = list((ROOT / "tests").rglob("*.py"))
    tests = {path.stem for path in paths if path.stem.startswith("test_")}
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in paths
        for line, target, name in imports(path)
        if tests & {*target.split("."), name}
    ]
    assert not found, found
