"""Pushing previews to the edges that the policy names, when they are made. What fails is fetched when asked for."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from base import telemetry, tracing
from base.edges import EdgeClient
from base.errors import ServiceUnavailable
from base.ingest import Rendition

log = telemetry.logger(__name__)

SETTLE_S: Final = 2
"""How long an attempt waits for its pushes: an edge that hangs holds up no photo."""


class PushTo(msgspec.Struct, frozen=True):
    """An edge, and which previews it wants by their square's side in pixels."""

    edge: EdgeClient
    sides: frozenset[int]


class Pushes:
    """The pushes of one attempt."""

    def __init__(self, targets: Sequence[PushTo], asset: str) -> None:
        self._targets, self._asset = targets, asset
        self._running: list[asyncio.Task[None]] = []

    def begin(self, side: int, made: Rendition, data: bytes) -> None:
        """Hand a preview to every edge that wants it, without waiting."""
        for target in self._targets:
            if side in target.sides:
                self._running.append(asyncio.create_task(self._push(target.edge, side, made, data)))

    async def settle(self) -> None:
        """Let what runs end, for a short time."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=SETTLE_S)
            for task in late:
                task.cancel()
        self._running.clear()

    async def _push(self, edge: EdgeClient, side: int, made: Rendition, data: bytes) -> None:
        try:
            with tracing.span("push", side=side):
                is_kept = await edge.push(self._asset, made.recipe, made.extension, data)
            if not is_kept:
                log.warning("push_refused", asset=self._asset, recipe=made.recipe)
        except ServiceUnavailable as error:
            log.warning("push_failed", asset=self._asset, detail=str(error))
