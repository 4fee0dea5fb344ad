import pytest

from hosting.errors import Forbidden, NotFound
from tenants.choices import Role
from tenants.models import Membership
from tenants.permissions import MAY, Action, require, require_scope

TABLE = {
    Role.OWNER: {Action.VIEW, Action.OPERATE, Action.MANAGE},
    Role.MEMBER: {Action.VIEW, Action.OPERATE},
    Role.VIEWER: {Action.VIEW},
}


def test_every_role_has_its_actions() -> None:
    assert {role: set(actions) for role, actions in MAY.items()} == TABLE


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_a_member_is_refused_what_the_role_does_not_cover(role: Role, action: Action) -> None:
    membership = Membership(role=role)
    if action in TABLE[role]:
        assert require(membership, action) is membership
    else:
        with pytest.raises(Forbidden):
            require(membership, action)


def test_a_stranger_is_told_there_is_nothing() -> None:
    with pytest.raises(NotFound):
        require(None, Action.VIEW)


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ("view", {Action.VIEW}),
        ("operate", {Action.VIEW, Action.OPERATE}),
        ("manage", {Action.VIEW, Action.OPERATE, Action.MANAGE}),
    ],
)
def test_a_wider_scope_covers_the_narrower(scope: str, covered: set[Action]) -> None:
    for action in Action:
        if action in covered:
            require_scope([scope], action)
        else:
            with pytest.raises(Forbidden):
                require_scope([scope], action)
