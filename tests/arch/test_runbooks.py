"""Whoever is woken by an alert finds what to do: every rule that code can raise has an entry in docs/runbooks.md."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(p for package in ("app", "tasks", "tirage", "edge", "base") for p in (ROOT / package).rglob("*.py"))
RAISING = {"alert": 1, "contradicted": 2, "_block": 1}
"""Functions that take a rule, and at which place."""
HANDING_ON = {
    "app/fulfilment/sending.py": 1,
    "app/fulfilment/service.py": 2,
    "app/reconcile/service.py": 1,
    "app/webhooks/service.py": 1,
}
"""Where a rule that is named elsewhere is raised, and how often; `_named` knows each of those places."""


def _constant(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@functools.cache
def _raised(path: Path) -> tuple[str | None, ...]:
    """The rule of every call that raises one; None for one that is a variable."""
    text = path.read_text()
    return tuple(_found(ast.parse(text))) if "alert" in text or "contradicted" in text else ()


def _found(tree: ast.Module) -> Iterator[str | None]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = RAISING.get(name)
        if place is not None and len(node.args) > place:
            yield _constant(node.args[place])
        for keyword in node.keywords:
            if keyword.arg == "alert" and isinstance(keyword.value, ast.Tuple):
                yield _constant(keyword.value.elts[0])


def _named() -> Iterator[str]:
    """Rules that are named apart from where they are raised."""
    from app.reconcile.domain import RULES

    yield from (rule for rule, _ in RULES.values())
    for name, function in (("app/fulfilment/facts.py", "contradictions"), ("app/webhooks/stripe.py", "_surprise")):
        tree = ast.parse((ROOT / name).read_text())
        (found,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function)
        body = [*ast.walk(ast.Module(found.body[1:], []))]
        added = [n.args[0] for n in body if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "add"]
        given = [n.elts[0] for n in body if isinstance(n, ast.Tuple) and n.elts]
        yield from (
            text for text in map(_constant, [*added, *given]) if text and re.fullmatch("[a-z]+(-[a-z]+)+", text)
        )


def rules() -> set[str]:
    return {rule for path in SOURCES for rule in _raised(path) if rule is not None} | set(_named())


def test_a_rule_is_named_where_it_is_raised_or_in_a_known_place() -> None:
    found = {str(path.relative_to(ROOT)): _raised(path).count(None) for path in SOURCES}
    assert {name: count for name, count in found.items() if count} == HANDING_ON


def test_every_rule_has_an_entry_and_every_entry_a_rule() -> None:
    page = (ROOT / "docs" / "runbooks.md").read_text()
    entries = re.findall(r"^### `([a-z-]+)`$", page, flags=re.M)
    assert sorted(entries) == sorted(rules())


def test_every_entry_says_what_it_means_and_what_to_do() -> None:
    page = (ROOT / "docs" / "runbooks.md").read_text()
    bodies = re.split(r"^### `[a-z-]+`$", page, flags=re.M)[1:]
    assert bodies
    assert [body[:60] for body in bodies if "**Means.**" not in body or "**Do.**" not in body] == []
