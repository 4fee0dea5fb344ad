"""`Idempotency-Key`: a POST that comes twice is carried out once, and answered twice with the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from functools import wraps
from hashlib import sha256
from typing import Any, TypeAlias

from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from hosting import keyring
from hosting.api.callers import token_of, user_of
from hosting.api.models import Answer
from hosting.errors import Conflict, InvalidRequest

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_LONGEST = 255

Handler: TypeAlias = Callable[..., Response]


def once_per_key(*, withhold: Collection[str] = ()) -> Callable[[Handler], Handler]:
    """Decorates a view's `post`: what it does and what it answered are committed together, or neither.

    Refusals are not kept: sent again, the request is judged again. Fields named in `withhold` are shown
    once and kept nowhere; in a repeated answer they are null.
    """

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        def post(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            key = request.headers.get(HEADER)
            if key is None:
                return handler(view, request, *args, **kwargs)
            with transaction.atomic():
                claimed = Answer.objects.claim(_caller(request), _checked(key), _print_of(request))
                if claimed.status:
                    return _again(claimed, request)
                response = handler(view, request, *args, **kwargs)
                _keep(claimed, response, withhold)
                Answer.objects.forget_some()
                return response

        post.is_once_per_key = True  # type: ignore[attr-defined]  # what a test looks for
        return post

    return decorate


def _caller(request: Request) -> str:
    token = token_of(request)
    return f"token:{token.pk}" if token is not None else f"user:{user_of(request).pk}"


def _checked(key: str) -> str:
    if not 0 < len(key) <= _LONGEST or not (key.isascii() and key.isprintable()):
        raise InvalidRequest(f"{HEADER}: 1 to {_LONGEST} printable ASCII characters.")
    return key


def _print_of(request: Request) -> str:
    body = json.dumps(request.data, sort_keys=True)
    return sha256(f"{request.method} {request.path}\0{body}".encode()).hexdigest()


def _again(answer: Answer, request: Request) -> Response:
    if answer.fingerprint != _print_of(request):
        raise Conflict(
            "This idempotency key was used for another request.", code="idempotency_key_reused"
        )
    headers = {REPLAYED: "true"}
    if answer.location:
        headers["Location"] = answer.location
    return Response(json.loads(keyring.unseal(answer.sealed_body)), answer.status, headers=headers)


def _keep(answer: Answer, response: Response, withhold: Collection[str]) -> None:
    body = {**response.data, **dict.fromkeys(withhold)} if withhold else response.data
    answer.status = response.status_code
    answer.location = response.headers.get("Location", "")
    answer.sealed_body = keyring.seal(JSONRenderer().render(body).decode())
    answer.save(update_fields=["status", "location", "sealed_body"])
