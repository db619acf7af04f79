"""The origin's renderer: which stored parent a rendition is made from, and the jail that makes it."""

import msgspec

from base import keys
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

    def parent_key(self, asset: str, recipe: recipes.Recipe, facts: bytes) -> str:
        """Where in the ancestors bucket the parent is; raises `Unmakeable`, `NotHere`."""
        try:
            parent = parent_of(recipe, parse(facts))
        except OutOfBounds as error:
            raise Unmakeable("outside-the-picture") from error
        if parent == "original":
            raise NotHere("needs-original")
        return (keys.half if parent == "half" else keys.ancestor)(asset, recipe.engine)

    async def render(self, recipe: recipes.Recipe, parent: bytes, facts: bytes, deadline_s: int) -> bytes:
        """The rendition's bytes; raises `ServiceUnavailable`."""
        params = msgspec.msgpack.encode({"recipe": recipes.text(recipe), "facts": facts})
        try:
            outputs = [output async for output in self._jail.arun("render", params, [parent], deadline_s)]
        except ImageError as error:
            raise ServiceUnavailable("the renderer failed") from error
        return outputs[0].data
