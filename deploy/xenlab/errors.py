"""What can go wrong with the lab's machines, each with a stable code."""


class XenlabError(Exception):
    """The lab cannot do what was asked; `code` is stable, the message is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
