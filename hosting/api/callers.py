"""Who calls: a person by session, or a program by token."""

from typing import cast

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from hosting.errors import NotFound
from tenants.models import ApiToken, Tenant, User
from tenants.permissions import Action, require, require_role, require_scope
from tenants.selectors import find_tenant, find_token, membership_of
from tenants.services import note_use


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer bh_…`. It comes first: its challenge is what 401 answers carry."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _, secret = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = find_token(secret.decode("latin-1").strip())
        if token is None:
            raise AuthenticationFailed("The token is unknown, revoked or past its time.")
        note_use(token)
        return token.created_by, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="bulkhead"'


def user_of(request: Request) -> User:
    """Whoever calls, or on whose behalf a token does. For authenticated requests."""
    return cast(User, request.user)


def token_of(request: Request) -> ApiToken | None:
    """None for a session."""
    return cast("ApiToken | None", request.auth)


def actor_of(request: Request) -> str:
    """The caller as operations and audit entries name it."""
    token = token_of(request)
    return f"token:{token.prefix}" if token is not None else user_of(request).as_actor


def address_of(request: Request) -> str | None:
    return request.META.get("REMOTE_ADDR") or None


def tenant_for(request: Request, slug: str, action: Action) -> Tenant:
    """The tenant in the address, if the caller may do `action` there.

    Raises NotFound for strangers, and for another tenant's token; Forbidden for too low a role or scope.
    """
    token = token_of(request)
    if token is None:
        tenant = find_tenant(user=user_of(request), slug=slug)
        require(membership_of(user_of(request), tenant), action)
        return tenant
    if token.tenant.slug != slug:
        raise NotFound(slug=slug)
    require_role(token.role, action)
    require_scope(token.scopes, action)
    return token.tenant
