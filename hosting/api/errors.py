"""Our errors, and the framework's, as HTTP says them: RFC 9457 problems. The one place that does."""

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from hosting.api.serializers import PROBLEM_JSON
from hosting.errors import (
    Conflict,
    Forbidden,
    HostingError,
    InvalidRequest,
    NoCapacity,
    NotFound,
    QuotaExceeded,
    Unavailable,
)

log = structlog.get_logger(__name__)

STATUS: dict[type[HostingError], int] = {
    InvalidRequest: status.HTTP_400_BAD_REQUEST,
    Forbidden: status.HTTP_403_FORBIDDEN,
    QuotaExceeded: status.HTTP_403_FORBIDDEN,
    NotFound: status.HTTP_404_NOT_FOUND,
    Conflict: status.HTTP_409_CONFLICT,
    Unavailable: status.HTTP_503_SERVICE_UNAVAILABLE,
    NoCapacity: status.HTTP_507_INSUFFICIENT_STORAGE,
}

# The framework's own words, in our codes.
_CODES = {
    400: "invalid_request",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    412: "precondition_failed",
    415: "unsupported_media_type",
    429: "throttled",
}


def status_of(error: HostingError) -> int:
    """The HTTP status of `error`, by its nearest kind; 500 for one that is of none."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return status.HTTP_500_INTERNAL_SERVER_ERROR


def problem_response(error: Exception, _context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None for what is nobody's fault but ours: Django makes that a 500."""
    if isinstance(error, HostingError):
        code, answer = error.code, status_of(error)
        log.info("refused", code=code, status=answer, context=error.context)
        return _answer(answer, code, error.public)
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    code = _CODES.get(error.status_code, "internal")
    if isinstance(error, exceptions.ValidationError):
        return _answer(
            error.status_code, code, "Some fields are not right.", errors=_pointers(error.detail)
        )
    return _answer(error.status_code, code, str(error.detail), headers=_headers(error))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler of exceptions that nobody caught: they are in the logs."""
    if not request.path.startswith("/api/"):
        return defaults.server_error(request)
    body = {"type": "urn:bulkhead:problem:internal", "status": 500, "code": "internal"}
    detail = HostingError.default_public
    return JsonResponse({**body, "detail": detail}, status=500, content_type=PROBLEM_JSON)


def _answer(
    answer: int,
    code: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    **more: object,
) -> Response:
    set_rollback()
    body = {"type": f"urn:bulkhead:problem:{code}", "status": answer, "code": code}
    return Response(
        {**body, "detail": detail, **more},
        status=answer,
        headers=headers,
        content_type=PROBLEM_JSON,
    )


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if challenge := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = str(challenge)
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def _pointers(detail: Any, path: str = "") -> list[dict[str, str]]:
    """DRF's nest of messages as a flat list of JSON pointers, each with its words."""
    if isinstance(detail, dict):
        return [
            entry
            for key, value in detail.items()
            for entry in _pointers(
                value, path if key == "non_field_errors" else f"{path}/{_escape(key)}"
            )
        ]
    if isinstance(detail, list):
        return [
            entry
            for number, value in enumerate(detail)
            for entry in _pointers(value, path if isinstance(value, str) else f"{path}/{number}")
        ]
    return [{"pointer": path, "detail": str(detail)}]


def _escape(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")
