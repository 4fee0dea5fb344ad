"""The read-only half of the OCI distribution API."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deploy.lab.registry.access import Access, error
from deploy.lab.registry.build import Store, digest_of
from deploy.lab.registry.faults import Faults, spoil

Answer = Callable[[Request], Response]
Endpoint = Callable[[Request], Awaitable[Response]]
_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")


@dataclass
class Registry:
    store: Store
    access: Access = field(default_factory=Access)
    faults: Faults = field(default_factory=Faults)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of each request, with ":method" as one of them; for tests."""
    knows_ranges: bool = True

    def application(self) -> Starlette:
        name = "/v2/{name:path}"
        routes = [
            ("/token", self._token),
            ("/v2/", self._base),
            ("/v2/_catalog", self._catalog),
            (f"{name}/tags/list", self._tags),
            (f"{name}/manifests/{{wanted}}", self._manifest),
            (f"{name}/blobs/{{digest}}", self._blob),
        ]
        return Starlette(
            routes=[Route(path, self._guarded(answer)) for path, answer in routes]  # GET and HEAD
        )

    def _guarded(self, answer: Answer) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            self.seen.append((request.url.path, {":method": request.method, **request.headers}))
            repository = request.path_params.get("name", "")
            is_token = request.url.path == "/token"
            refusal = None if is_token else self.access.refuses(request, repository)
            response = refusal or answer(request)
            fault = self.faults.take(request.url.path)
            response = spoil(fault, request, response) if fault else response
            response.headers["Docker-Distribution-API-Version"] = "registry/2.0"
            return response

        return endpoint

    def _token(self, request: Request) -> Response:
        return self.access.token(request)

    def _base(self, request: Request) -> Response:
        return JSONResponse({})

    def _catalog(self, request: Request) -> Response:
        return JSONResponse({"repositories": self.store.repositories()})

    def _tags(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.store.repositories():
            return error(404, "NAME_UNKNOWN")
        return JSONResponse({"name": name, "tags": self.store.tags(name)})

    def _manifest(self, request: Request) -> Response:
        found = self.store.manifests.get(
            (request.path_params["name"], request.path_params["wanted"])
        )
        if found is None:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, body = found
        digest = digest_of(body)
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        return Response(body, 200, headers, media_type)

    def _blob(self, request: Request) -> Response:
        digest = request.path_params["digest"]
        body = self.store.blobs.get(digest)
        if body is None or request.path_params["name"] not in self.store.repositories():
            return error(404, "BLOB_UNKNOWN")
        headers = {
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
            "Accept-Ranges": "bytes",
        }
        asked = request.headers.get("Range", "") if self.knows_ranges else ""
        if request.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            asked = ""
        part = _range(asked, len(body))
        if part is None:
            return Response(body, 200, headers, "application/octet-stream")
        if not part:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(body)}"
        return Response(body[part.start : part.stop], 206, headers, "application/octet-stream")


def _range(header: str, size: int) -> range | None:
    """The one range asked for; None for all, an empty one for one that is not there (RFC 9110, 14.1)."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return range(max(0, size - int(match[2])), size)
    first, last = int(match[1]), int(match[2] or size)
    if match[2] and last < first:
        return None
    return range(min(first, size), min(last + 1, size))
