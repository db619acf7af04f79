"""Which lanes a worker serves, with how many slots each. Slots are reserved: no lane can take another one's."""

from typing import Final

from base.jobs import LANES, Lane, Plane

SLOTS: Final = {"checkout": 8, "record": 8, "sweep": 2, "preview": 2, "print": 1, "bulk": 1}


def parse_lanes(text: str | None, plane: Plane) -> list[tuple[Lane, int]]:
    """`preview=2,print=1` as lanes with slots; None means every lane of the plane. Raises `ValueError`."""
    mine = {lane.name: lane for lane in LANES.values() if lane.plane is plane}
    if not text:
        return [(lane, SLOTS[name]) for name, lane in mine.items()]
    wanted = []
    for part in text.split(","):
        name, _, slots = part.partition("=")
        if name not in mine or not (slots or "1").isdigit() or int(slots or 1) < 1:
            raise ValueError(f"{part!r}: lanes are {', '.join(mine)}, as NAME=SLOTS")
        wanted.append((mine[name], int(slots or 1)))
    return wanted
