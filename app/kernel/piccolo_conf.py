"""Where piccolo looks for its engine (`PICCOLO_CONF`): the one that `Database.start` made, never one made at import."""

from typing import Any

from piccolo.engine.postgres import PostgresEngine

_engine: PostgresEngine | None = None


def use(engine: PostgresEngine) -> None:
    """Make `engine` the one piccolo's tables and migrations run on."""
    global _engine
    _engine = engine


def __getattr__(name: str) -> Any:
    """`DB`, and `APP_REGISTRY`, which only migrations ask for: its module brings a formatter with it."""
    if name == "APP_REGISTRY":
        from piccolo.conf.apps import AppRegistry

        return AppRegistry(apps=["app.piccolo_app"])
    if name != "DB":
        raise AttributeError(name)
    if _engine is None:
        raise AttributeError("the database is not started")
    return _engine
