"""Alerts: a row for the operator, a metric for the pager, a line for the log; open ones of a rule and subject merge."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec
from prometheus_client import Counter

from app.kernel.db import Transaction
from base import telemetry
from base.ids import new_id

log = telemetry.logger(__name__)
RAISED: Final = Counter("tirage_alerts_total", "Alerts raised, by rule and severity", ("rule", "severity"))


class Severity(StrEnum):
    """How soon somebody must look."""

    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as stored; `count` says how often it was raised while open."""

    id: UUID
    rule: str
    severity: Severity
    subject: str
    detail: str
    count: int
    first_at: datetime
    last_at: datetime


UPSERT: Final = """
INSERT INTO alerts (id, rule, severity, subject, detail) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (rule, subject) WHERE closed_at IS NULL
DO UPDATE SET count = alerts.count + 1, last_at = now(), detail = excluded.detail, severity = excluded.severity
"""
OPEN: Final = """
SELECT id, rule, severity, subject, detail, count, first_at, last_at FROM alerts
WHERE closed_at IS NULL ORDER BY last_at DESC LIMIT $1
"""
OF_RULE: Final = "SELECT subject FROM alerts WHERE rule = $1 AND closed_at IS NULL"
SETTLE: Final = "UPDATE alerts SET closed_at = now() WHERE rule = $1 AND subject = $2 AND closed_at IS NULL"
CLOSE: Final = "UPDATE alerts SET closed_at = now() WHERE id = $1 AND closed_at IS NULL"


async def alert(tx: Transaction, rule: str, severity: Severity, subject: str, *, detail: str = "") -> None:
    """Raise `rule` about `subject` (an id or a name, nothing personal) in the transaction of what was seen."""
    await tx.execute(UPSERT, new_id(), rule, severity.value, subject, detail)
    RAISED.labels(rule, severity.value).inc()
    log.warning("alert", rule=rule, severity=severity.value, subject=subject, detail=detail)


async def open_alerts(tx: Transaction, limit: int = 200) -> list[Alert]:
    """Open alerts, latest first."""
    return [_alert(r) for r in await tx.fetch(OPEN, limit)]


async def open_subjects(tx: Transaction, rule: str) -> set[str]:
    """What a rule's open alerts are about."""
    return {row["subject"] for row in await tx.fetch(OF_RULE, rule)}


async def close(tx: Transaction, alert_id: UUID) -> bool:
    """Close an alert; False when it was not open."""
    return await tx.execute(CLOSE, alert_id) == 1


async def settle(tx: Transaction, rule: str, subject: str) -> None:
    """Close the open alert of a rule about a subject, when there is one: what it told of is dealt with."""
    await tx.execute(SETTLE, rule, subject)


def _alert(row: Any) -> Alert:
    return Alert(**{**dict(row), "severity": Severity(row["severity"])})
