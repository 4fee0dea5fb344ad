"""The one error a XAPI call answers with."""

from __future__ import annotations


class XapiError(Exception):
    """A XAPI failure: `code` and its parameters, as the client sees them in ErrorDescription."""

    def __init__(self, code: str, *parameters: str) -> None:
        super().__init__(code, *parameters)
        self.code = code
        self.parameters = tuple(parameters)

    @property
    def description(self) -> list[str]:
        return [self.code, *self.parameters]


def handle_invalid(cls: str, ref: str) -> XapiError:
    return XapiError("HANDLE_INVALID", cls, ref)


def failure(text: str) -> XapiError:
    """What the daemon answers when an argument does not parse: its inner exception's text."""
    return XapiError("INTERNAL_ERROR", f'Failure("{text}")')
