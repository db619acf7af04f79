"""The verifying keys of a region's edges and origins, derived from the signing masters, which they never see."""

import base64
from collections.abc import Mapping

from base.settings import Reader
from edge.node.settings import VARIABLES
from imagecore.signing import derive


def edge_keys(env: Mapping[str, str]) -> dict[str, str]:
    """`TIRAGE_EDGE_KEYS_*` for `TIRAGE_REGION`, from `TIRAGE_URL_KEYS`; raises `SettingsError`."""
    read = Reader(env)
    masters, region = read.keys("TIRAGE_URL_KEYS"), read.text("TIRAGE_REGION", "home")
    read.finish()
    return {
        name: ",".join(
            f"{kid}:{base64.b64encode(derive(key.reveal(), lifetime, region)).decode()}" for kid, key in masters
        )
        for lifetime, name in VARIABLES.items()
    }
