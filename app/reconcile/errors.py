"""What reconciliation refuses."""

from base.errors import DomainError, Kind


class CaseNotFound(DomainError):
    """There is no such case, or it is closed."""

    code, title, kind = "case-not-found", "There is no such open case", Kind.NOT_FOUND
    next_step = "List open cases with `tirage reconcile cases`."
