"""Every lifecycle of ours, for `tirage migrate`, which writes the legal moves into the database."""

from typing import Any, Final

from app.kernel import jobs
from app.kernel.states import Machine

MACHINES: Final[tuple[Machine[Any], ...]] = (jobs.MACHINE,)
