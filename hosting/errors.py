"""The one exception tree of the hosting side.

An error has a `code`, which programs may rely on and docs/errors.md lists; a `public` sentence, which any
caller may read; and a private `context`, which only our logs see. What HTTP says of it is decided at the
last moment, in hosting/api/errors.py.
"""

from typing import ClassVar


class HostingError(Exception):
    """Something that was asked for will not be done; raised as one of the kinds below."""

    default_code: ClassVar[str] = "internal"
    default_public: ClassVar[str] = "Something went wrong on our side."

    def __init__(self, public: str = "", *, code: str = "", **context: object) -> None:
        self.public = public or self.default_public
        self.code = code or self.default_code
        self.context = context
        super().__init__(self.public)


class NotFound(HostingError):
    """No such thing, or not one this caller may know of."""

    default_code = "not_found"
    default_public = "There is no such thing here."


class Conflict(HostingError):
    """The thing changed meanwhile, or something else is being done with it."""

    default_code = "conflict"
    default_public = "That does not go together with the present state: look again."


class InvalidRequest(HostingError):
    """What was asked for makes no sense, and would not at any other time."""

    default_code = "invalid_request"
    default_public = "That request makes no sense."


class Forbidden(HostingError):
    """The caller is known, may see the thing, and may not do this to it."""

    default_code = "forbidden"
    default_public = "You may not do that."


class QuotaExceeded(HostingError):
    """The tenant has no more of something to spend."""

    default_code = "quota_exceeded"
    default_public = "That is more than the tenant's quota leaves."


class NoCapacity(HostingError):
    """The pool has no room now; the same request may succeed later."""

    default_code = "no_capacity"
    default_public = "There is no room for that now."


class Unavailable(HostingError):
    """Something we stand on does not answer; the same request may succeed soon."""

    default_code = "unavailable"
    default_public = "Something we need does not answer: try again soon."
