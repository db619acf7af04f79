"""Tirage as piccolo's migrations see it: one app, one linear list of migrations (docs/adr/0009)."""

from pathlib import Path

from piccolo.conf.apps import AppConfig

APP_CONFIG = AppConfig(
    app_name="tirage",
    migrations_folder_path=str(Path(__file__).parent / "migrations"),
    table_classes=[],
)
