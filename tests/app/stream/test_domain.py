"""The public projection is held to the registered events."""

import app.services  # noqa: F401 registers every event type
from app.identity import domain  # noqa: F401
from app.kernel.events import EVENT_TYPES
from app.stream.domain import PRIVATE, PUBLIC
from base.ids import PREFIXES


def test_every_event_is_public_or_says_why_not() -> None:
    assert set(PUBLIC) | set(PRIVATE) == {name for name in EVENT_TYPES if not name.startswith("test.")}
    assert set(PUBLIC) & set(PRIVATE) == set()


def test_public_fields_exist_and_have_public_names() -> None:
    for type_, public in PUBLIC.items():
        for name, field, kind in public.fields:
            assert field in EVENT_TYPES[type_].__struct_fields__, (type_, field)
            assert name.isalnum(), name
            assert kind == "" or kind in PREFIXES


def test_public_names_and_versions_are_unique() -> None:
    named = [(public.name, public.version) for public in PUBLIC.values()]
    assert len(named) == len(set(named))
