"""House rules that no linter knows, read from the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("base", "imagecore", "edge", "app", "tasks", "devstack", "tirage", "loadtests")
SOURCES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(path: Path) -> Iterator[str]:
    return (ast.unparse(node.func) for node in ast.walk(TREES[path]) if isinstance(node, ast.Call))


def module_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Every node that runs at import: not the bodies of functions."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def test_there_are_sources() -> None:
    assert len(SOURCES) > 20


def test_package_markers_are_empty() -> None:
    assert [name_of(p) for p in SOURCES if p.name == "__init__.py" and p.read_text().strip()] == []


def test_no_catch_all_modules() -> None:
    assert [name_of(p) for p in SOURCES if p.stem in {"utils", "helpers", "common", "misc"}] == []


def test_environment_is_not_read_at_import() -> None:
    found = [
        name_of(path)
        for path, tree in TREES.items()
        for node in module_level(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv"}
    ]
    assert found == []


def test_transactions_are_opened_by_the_wrapper_only() -> None:
    """A stock piccolo transaction inside ours joins it silently; elsewhere it leaks on a failed COMMIT."""
    stock = re.compile(r"(engine|DB)\.(transaction|atomic)$|^atomic$|PostgresTransaction$")
    assert [f"{name_of(p)}: {called}" for p in SOURCES for called in calls(p) if stock.search(called)] == []


def test_handlers_stores_and_domains_open_no_transaction() -> None:
    inner = [p for p in SOURCES if p.name in {"routes.py", "schemas.py", "store.py", "domain.py"}]
    assert [name_of(p) for p in inner for called in calls(p) if called.endswith(".transaction")] == []


def test_http_exceptions_stay_in_the_web_layer() -> None:
    allowed = (ROOT / "app/web", ROOT / "app/main.py")
    found = [
        name_of(path)
        for path, tree in TREES.items()
        if not any(path == a or a in path.parents for a in allowed)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id.endswith("HTTPException")
    ]
    assert found == []


def test_no_tasks_or_network_inside_a_transaction() -> None:
    """Children inherit the transaction's context and would share its one connection."""
    banned = re.compile(
        r"asyncio\.(gather|create_task|TaskGroup|to_thread|wait)$"
        r"|(store|objects)\.(put_new|put|head|get|list_keys|delete)$|httpx?\.|\.publish$"
    )
    found = []
    for path in SOURCES:
        for node in ast.walk(TREES[path]):
            if not isinstance(node, ast.AsyncWith) or ".transaction(" not in ast.unparse(node.items[0].context_expr):
                continue
            inner = [ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)]
            found += [f"{name_of(path)}:{node.lineno} {called}" for called in inner if banned.search(called)]
    slices = {f"{name_of(p.parent)}.store" for p in SOURCES if p.name == "store.py"}
    own = re.compile(r" store\.\w+$")  # a slice's own store module takes the transaction as its first argument
    assert slices or not found
    assert [f for f in found if not own.search(f)] == []


STATE_WRITERS = {"app/kernel/states.py", "app/kernel/jobs.py"}


def test_states_are_written_by_compare_and_set_only() -> None:
    writes = re.compile(r"\bSET\s+(\w+\s*=\s*[^,]+,\s*)*state\s*=")
    found = [
        name_of(path)
        for path in SOURCES
        if name_of(path) not in STATE_WRITERS and not name_of(path).startswith(("app/migrations", "loadtests"))
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and writes.search(node.value)
    ]
    assert found == []


def test_no_float_in_money_geometry_and_signatures() -> None:
    named = {"base/money.py", "base/lengths.py", *(f"imagecore/{n}.py" for n in ("geometry", "recipe", "signing"))}
    exact = [p for p in SOURCES if name_of(p) in named or p.parts[-2] in {"pricing", "payments"}]
    found = []
    for path in exact:
        for node in ast.walk(TREES[path]):
            is_float = isinstance(node, ast.Constant) and isinstance(node.value, float)
            is_cast = isinstance(node, ast.Name) and node.id == "float"
            is_division = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
            if is_float or is_cast or is_division:
                found.append(f"{name_of(path)}:{getattr(node, 'lineno', 0)}")
    assert found == []


def test_services_stay_small() -> None:
    lines = {name_of(p): len(p.read_text().splitlines()) for p in SOURCES if p.name == "service.py"}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_functions_stay_small() -> None:
    """Forty lines of code; the docstring does not count."""
    found = []
    for path, tree in TREES.items():
        if path.is_relative_to(ROOT / "loadtests"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 > 40:
                    found.append(f"{name_of(path)}:{node.name}")
    assert found == []


def test_foreign_keys_say_what_a_delete_does() -> None:
    lines = [
        (name_of(path), line.strip())
        for path in (ROOT / "app/migrations").glob("*.py")
        for line in path.read_text().splitlines()
        if "REFERENCES" in line
    ]
    assert lines
    assert [entry for entry in lines if "ON DELETE" not in entry[1] or "ON UPDATE" not in entry[1]] == []


def test_only_one_module_imports_libvips() -> None:
    found = {
        name_of(path)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "pyvips" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pyvips")
    }
    assert {name for name in found if not name.startswith("loadtests/")} <= {"imagecore/vips.py"}


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.lock")), ids=lambda p: p.name)
def test_locks_have_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "index-url" not in text
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(blocks) > 1
    assert [b.splitlines()[0] for b in blocks if not re.match(r"[\w.-]+==", b) or "--hash=sha256:" not in b] == []


def test_product_lock_is_what_developers_run() -> None:
    """dev.lock is app.lock and more, at the same versions."""
    pins = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", flags=re.M)
    product, all_of_it = (dict(pins.findall((ROOT / "requirements" / n).read_text())) for n in ("app.lock", "dev.lock"))
    assert {name: version for name, version in product.items() if all_of_it.get(name) != version} == {}


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md"])
def test_paths_named_in_the_front_pages_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:[a-z_.]+/)+[a-zA-Z_.-]*)`", text))
    outside = (".venv", ".tirage", "../")
    missing = {n for n in named if not n.startswith(outside) and not (ROOT / n).exists()}
    assert len(named) > 5
    assert missing == set()


def test_migrations_are_numbered_once_and_without_a_gap() -> None:
    """Two files of one number would be one migration to piccolo, and the other's tables would be missing."""
    files = sorted((ROOT / "app" / "migrations").glob("tirage_*.py"))
    told = [re.search(r'^ID = "(\d{4})"$', file.read_text(), re.MULTILINE) for file in files]
    numbers = [found[1] for found in told if found]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert numbers == [file.name.split("_")[1] for file in files]


@pytest.mark.xdist_group("kept-together")
def test_groups_of_tests_are_kept_together(request: pytest.FixtureRequest) -> None:
    """pytest-xdist names the group in the id; where it cannot, stacks are started once a worker, in silence."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("one process: nothing to keep together")
    assert request.node.nodeid.endswith("@kept-together")
