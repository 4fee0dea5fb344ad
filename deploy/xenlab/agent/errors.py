"""What the agent answers when it cannot do what was asked: a stable code and a sentence."""


class AgentError(Exception):
    """Becomes `{"error": {"code": …, "message": …}}` of the request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
