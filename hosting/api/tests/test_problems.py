import json
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import Client, RequestFactory
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from hosting import errors
from hosting.api.callers import TokenAuthentication
from hosting.api.errors import STATUS, server_error, status_of

EXPECTED: dict[type[errors.HostingError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "invalid_request"),
    errors.Forbidden: (403, "forbidden"),
    errors.QuotaExceeded: (403, "quota_exceeded"),
    errors.NotFound: (404, "not_found"),
    errors.Conflict: (409, "conflict"),
    errors.Unavailable: (503, "unavailable"),
    errors.NoCapacity: (507, "no_capacity"),
}


def answer(error: Exception) -> tuple[Response, dict[str, Any]]:
    class Failing(APIView):
        authentication_classes = ()
        permission_classes = ()

        def get(self, request: Request) -> Response:
            raise error

    response = Failing.as_view()(APIRequestFactory().get("/"))
    response.render()
    return response, json.loads(response.content)


def test_every_kind_of_error_has_its_place_in_the_table() -> None:
    kinds = set(errors.HostingError.__subclasses__())
    assert kinds == set(STATUS) == set(EXPECTED)


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_an_error_is_told_as_a_problem(kind: type[errors.HostingError]) -> None:
    response, body = answer(kind("Because.", secret="for our logs"))
    assert (response.status_code, body["code"]) == EXPECTED[kind]
    assert response.headers["Content-Type"] == "application/problem+json"
    assert body["status"] == response.status_code
    assert body["detail"] == "Because."
    assert "for our logs" not in response.content.decode()


def test_an_error_may_carry_a_code_of_its_own() -> None:
    _, body = answer(errors.Conflict(code="last_owner"))
    assert (body["code"], body["type"]) == ("last_owner", "urn:bulkhead:problem:last_owner")


def test_a_narrower_kind_answers_as_its_parent() -> None:
    class Gone(errors.NotFound):
        pass

    assert status_of(Gone()) == 404


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404(), 404, "not_found"),
        (PermissionDenied(), 403, "forbidden"),
        (exceptions.NotAuthenticated(), 403, "forbidden"),
        (exceptions.MethodNotAllowed("GET"), 405, "method_not_allowed"),
        (exceptions.Throttled(wait=7), 429, "throttled"),
        (exceptions.UnsupportedMediaType("text/plain"), 415, "unsupported_media_type"),
    ],
)
def test_the_frameworks_errors_are_problems_too(error: Exception, status: int, code: str) -> None:
    response, body = answer(error)
    assert (response.status_code, body["code"]) == (status, code)


def test_who_is_throttled_is_told_how_long_to_wait() -> None:
    response, _ = answer(exceptions.Throttled(wait=7))
    assert response.headers["Retry-After"] == "7"


def test_each_wrong_field_is_pointed_at() -> None:
    wrong: Any = {"ports": [{}, {"inner/port": ["Too big."]}], "non_field_errors": ["Not so."]}
    _, body = answer(exceptions.ValidationError(wrong))
    assert body["errors"] == [
        {"pointer": "/ports/1/inner~1port", "detail": "Too big."},
        {"pointer": "", "detail": "Not so."},
    ]


def test_a_bug_of_ours_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        answer(ZeroDivisionError())


def test_what_nobody_caught_is_a_problem_without_its_reasons(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(TokenAuthentication, "authenticate", fail)
    client.raise_request_exception = False
    response = client.get("/api/v1/me")
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "secret" not in response.content.decode()


def test_a_page_for_browsers_fails_as_one() -> None:
    response = server_error(RequestFactory().get("/"))
    assert (response.status_code, response.headers["Content-Type"][:9]) == (500, "text/html")
