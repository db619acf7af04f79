"""The origin's renderer: the jail makes a rendition from the ancestor's stored bytes."""

import msgspec

from base.errors import ServiceUnavailable
from edge.origin.app import NotHere, Unmakeable
from imagecore import recipe as recipes
from imagecore.errors import ImageError, OutOfBounds
from imagecore.facts import parse
from imagecore.jail import Jail
from imagecore.render import parent_of


class JailRenderer:
    """Renders in one jail; the original itself is out of an origin's reach."""

    def __init__(self, jail: Jail) -> None:
        self._jail = jail

    async def __call__(self, recipe: recipes.Recipe, ancestor: bytes, facts: bytes, deadline_s: int) -> bytes:
        """The rendition's bytes; raises `Unmakeable`, `NotHere`, `ServiceUnavailable`."""
        try:
            parent = parent_of(recipe, parse(facts))
        except OutOfBounds as error:
            raise Unmakeable("outside-the-picture") from error
        if parent != "ancestor":
            raise NotHere("needs-original")
        params = msgspec.msgpack.encode({"recipe": recipes.text(recipe), "facts": facts})
        try:
            outputs = [output async for output in self._jail.arun("render", params, [ancestor], deadline_s)]
        except ImageError as error:
            raise ServiceUnavailable("the renderer failed") from error
        return outputs[0].data
