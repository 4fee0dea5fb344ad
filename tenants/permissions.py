"""What each role and each token may do: one table."""

from collections.abc import Collection
from enum import StrEnum

from hosting.errors import Forbidden, NotFound
from tenants.choices import Role, Scope
from tenants.models import Membership


class Action(StrEnum):
    """Kinds of doing; every endpoint and page names one."""

    VIEW = "view"  # look at anything of the tenant's
    OPERATE = "operate"  # make, change and remove containers, volumes, networks
    MANAGE = "manage"  # people, tokens


MAY: dict[Role, frozenset[Action]] = {
    Role.OWNER: frozenset(Action),
    Role.MEMBER: frozenset({Action.VIEW, Action.OPERATE}),
    Role.VIEWER: frozenset({Action.VIEW}),
}


def may(role: str, action: Action) -> bool:
    """`role` covers `action`."""
    return action in MAY[Role(role)]


def require(membership: Membership | None, action: Action) -> Membership:
    """`membership` when it covers `action`. Raises NotFound for a stranger, to whom the tenant must not
    even be known to exist, and Forbidden for a member of too low a role.
    """
    if membership is None:
        raise NotFound
    require_role(membership.role, action)
    return membership


def require_role(role: str, action: Action) -> None:
    """Raises Forbidden unless `role` covers `action`."""
    if not may(role, action):
        raise Forbidden(needed=action.value, role=role)


def require_scope(scopes: Collection[str], action: Action) -> None:
    """Raises Forbidden unless a token with `scopes` covers `action`. A wider scope covers the narrower."""
    widest_first = [Scope.MANAGE, Scope.OPERATE, Scope.VIEW]
    enough = widest_first[: widest_first.index(Scope(action.value)) + 1]
    if not set(enough) & set(scopes):
        raise Forbidden(code="scope_missing", needed=action.value, scopes=list(scopes))
