"""Who may pull: everybody, or who shows a password, straight away or at the token server."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Scheme = Literal["none", "basic", "token"]
TOKEN_SECONDS = 300


@dataclass
class Access:
    """Tokens live in memory and for one repository."""

    scheme: Scheme = "none"
    username: str = ""
    password: str = ""
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refuses(self, request: Request, repository: str) -> Response | None:
        """A 401 with its challenge; None when the request may pass."""
        if self.scheme == "none" or self._permits(request, repository):
            return None
        return error(
            401, "UNAUTHORIZED", {"WWW-Authenticate": self._challenge(request, repository)}
        )

    def token(self, request: Request) -> Response:
        """The token server's answer."""
        if not self._knows(request):
            return error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="lab"'})
        kind, _, rest = request.query_params.get("scope", "").partition(":")
        repository, _, actions = rest.rpartition(":")
        token = secrets.token_urlsafe(24)
        if kind == "repository" and "pull" in actions.split(","):
            with self._lock:
                self._tokens[token] = (repository, time.monotonic() + TOKEN_SECONDS)
        return JSONResponse({"token": token, "expires_in": TOKEN_SECONDS})

    def forget_tokens(self) -> None:
        with self._lock:
            self._tokens.clear()

    def _permits(self, request: Request, repository: str) -> bool:
        if self.scheme == "basic":
            return self._knows(request)
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        with self._lock:
            owner, end = self._tokens.get(token, ("", 0.0))
        return kind == "Bearer" and time.monotonic() < end and repository in ("", owner)

    def _knows(self, request: Request) -> bool:
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        try:
            pair = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return False
        wanted = f"{self.username}:{self.password}".encode()
        return kind == "Basic" and hmac.compare_digest(pair, wanted)

    def _challenge(self, request: Request, repository: str) -> str:
        if self.scheme == "basic":
            return 'Basic realm="lab"'
        realm = request.url.replace(path="/token", query="")
        scope = f',scope="repository:{repository}:pull"' if repository else ""
        return f'Bearer realm="{realm}",service="lab"{scope}'


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Response:
    """As the distribution specification writes errors."""
    body = {"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}
    return JSONResponse(body, status, headers)
