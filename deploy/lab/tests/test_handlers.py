from __future__ import annotations

import inspect

import pytest

from deploy.lab import lab as _lab  # noqa: F401  (registers every message)
from deploy.lab.dispatch import HANDLERS
from deploy.lab.schema import SCHEMA


@pytest.mark.parametrize("name", sorted(HANDLERS))
def test_a_message_takes_the_parameters_that_the_datamodel_gives_it(name: str) -> None:
    parameters = SCHEMA.messages[name].parameters
    inspect.signature(HANDLERS[name].function).bind(object(), *parameters)
