"""Where objects are: keys are pure functions of ids, so that anybody may compute them and nobody looks them up.

Assets are named by their TypeID. What depends on the pixel engine carries its revision, so that an upgrade never
changes the bytes behind a key.
"""

from typing import Final

ANCESTOR: Final = "ancestor.jpg"
HALF: Final = "half.jpg"
FACTS: Final = "facts.json"


def original(asset: str) -> str:
    """The bytes a person sent, in the originals bucket."""
    return f"{asset}/original"


def ancestor(asset: str, engine: str) -> str:
    """The stored parent of large previews and of the half, in the ancestors bucket."""
    return f"{asset}/{engine}/{ANCESTOR}"


def half(asset: str, engine: str) -> str:
    """The stored parent of small previews, beside the ancestor."""
    return f"{asset}/{engine}/{HALF}"


def facts(asset: str, engine: str) -> str:
    """What inspection found, in canonical JSON, beside the ancestor."""
    return f"{asset}/{engine}/{FACTS}"


def quality(asset: str, engine: str, revision: int) -> str:
    """What the original's own pixels told of its quality, as JSON, beside the ancestor."""
    return f"{asset}/{engine}/quality-{revision}.json"


def analysis(asset: str, engine: str, revision: int) -> str:
    """What was seen on the photo, as JSON, beside the ancestor."""
    return f"{asset}/{engine}/analysis-{revision}.json"


def derivative(asset: str, recipe: str, extension: str) -> str:
    """One rendition, in the derivatives bucket; the signature is never part of a key."""
    return f"{asset}/{recipe}.{extension}"


def picture(asset: str) -> str:
    """The id of an asset's public picture: the same id under a prefix of its own, so that it can be denied alone."""
    return "pic_" + asset.removeprefix("ast_")


def master(asset: str, line: str, recipe_digest: str, engine: str, extension: str) -> str:
    """One print master, in the masters bucket; its versions are the same bytes."""
    return f"{asset}/{line}/{engine}/{recipe_digest}.{extension}"
