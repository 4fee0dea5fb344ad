"""`ETag` and `If-Match`: change it only if it is still what you looked at."""

from rest_framework import exceptions, status
from rest_framework.request import Request


class PreconditionFailed(exceptions.APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = "It has changed since you looked: look again."


def etag_of(generation: int) -> str:
    return f'"{generation}"'


def require_match(request: Request, generation: int) -> None:
    """Raises PreconditionFailed unless `If-Match`, if given, names this generation.

    To be called while the row is locked, so that it is still so when it is changed.
    """
    wanted = request.headers.get("If-Match")
    if wanted is None:
        return
    tags = [tag.strip() for tag in wanted.split(",")]
    if "*" not in tags and etag_of(generation) not in tags:
        raise PreconditionFailed
