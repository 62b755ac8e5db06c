"""The direction of the imports: a room knows only those above it, and nothing but the registry names an algorithm."""

import ast
from pathlib import Path

import bdpo_jax
from bdpo_jax.agents import AGENTS

ROOT = Path(bdpo_jax.__file__).parent
# From the top; what stands on one line may import each other.
LAYERS = (
    ("errors", "types", "text"),
    ("settings",),
    ("arguments",),
    ("diffusion", "edm", "vpsde", "networks", "ensembles"),
    ("agents",),
    ("devices", "workdir"),
    ("checkpoint", "loggers"),
    ("plotting", "distances"),
    ("data", "envs", "evaluation"),
    ("tasks",),
    ("training",),
    ("policy", "score", "export"),
    ("results",),
    ("compare",),
    ("report",),
    ("experiments",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def _is_ours(module):
    return module.split(".")[0] == "bdpo_jax"


def imports(path):
    """The modules of the package that a file imports, as "a.b"."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("bdpo_jax.") for alias in node.names if _is_ours(alias.name))
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports from {'.' * node.level}{node.module or ''}: name the package"
            if not _is_ours(node.module):
                continue
            inside = node.module.removeprefix("bdpo_jax").removeprefix(".")
            yield from (f"{inside}.{alias.name}" if inside else alias.name for alias in node.names)


def files():
    for path in sorted(ROOT.rglob("*.py")):
        inside = path.relative_to(ROOT)
        if inside != Path("__init__.py"):
            yield inside, path


def test_a_room_imports_only_rooms_above_it():
    for inside, path in files():
        here = inside.parts[0].removesuffix(".py")
        wrong = [name for name in imports(path) if RANK[name.split(".")[0]] > RANK[here]]
        assert not wrong, f"{inside} imports {wrong}"


def test_nothing_but_the_registry_imports_an_algorithm():
    for inside, path in files():
        named = [name for name in imports(path) if name.startswith("agents.") and name.split(".")[1] in AGENTS]
        assert not named or inside == Path("agents/__init__.py"), f"{inside} imports {named}"


def test_tasks_know_no_algorithm():
    for inside, path in files():
        if inside.parts[0] in ("tasks", "data", "envs", "plotting"):
            assert not [name for name in imports(path) if name.startswith("agents")], inside


def test_what_is_printed_outlives_its_reader():
    for inside, path in files():
        nodes = ast.walk(ast.parse(path.read_text("utf-8")))
        called = {getattr(node.func, "id", "") for node in nodes if isinstance(node, ast.Call)}
        assert "print" not in called or inside.name in ("text.py", "devices.py", "loggers.py"), inside
