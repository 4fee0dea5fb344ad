"""What the OpenAPI page says beyond what views and serializers tell by themselves."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from hosting.api.serializers import PROBLEM_JSON, ProblemOut

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="Any text of yours: the same request with the same key is carried out once, and "
    "answered with the same for 24 hours.",
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    description="An `ETag` that you were given: 412 when it has changed since.",
)
WAIT = OpenApiParameter(
    "wait",
    {"type": "integer", "minimum": 0, "maximum": 60},
    description="Seconds to wait for its end before answering.",
)


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "hosting.api.callers.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A tenant's token, made at /api/v1/tenants/{slug}/tokens: `bh_…`.",
        }


class Schema(AutoSchema):
    def get_override_parameters(self) -> list[Any]:
        parameters: list[Any] = []
        if self.method == "POST":
            parameters.append(IDEMPOTENCY_KEY)
        if self.method in getattr(self.view, "matched_methods", ()):
            parameters.append(IF_MATCH)
        return parameters

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        bodies["default"] = self._get_response_for_code(  # type: ignore[no-untyped-call]
            ProblemOut, "default", media_types=[PROBLEM_JSON], direction=direction
        )
        return bodies
