"""Where piccolo looks for its engine (`PICCOLO_CONF`): the one that `Database.start` made, never one made at import."""

from piccolo.conf.apps import AppRegistry
from piccolo.engine.postgres import PostgresEngine

APP_REGISTRY = AppRegistry(apps=["app.piccolo_app"])

_engine: PostgresEngine | None = None


def use(engine: PostgresEngine) -> None:
    """Make `engine` the one piccolo's tables and migrations run on."""
    global _engine
    _engine = engine


def __getattr__(name: str) -> PostgresEngine:
    if name != "DB":
        raise AttributeError(name)
    if _engine is None:
        raise AttributeError("the database is not started")
    return _engine
