"""What a client is told when its request cannot be answered, in OpenAI's form."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that is refused, with the HTTP status that says so."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        """Say what is wrong.

        Args:
            status: HTTP status.
            message: Expected, found, remedy.
            param: The field of the request that is at fault.
            code: OpenAI's name for the problem, where it has one.
        """
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    @property
    def body(self) -> dict[str, Any]:
        """The error object that stands in the response."""
        kind = "server_error" if self.status >= 500 else "authentication_error" if self.status == 401 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that is not what the API takes."""
    return ApiError(400, message, param=param, code=code)


def client_gone() -> ApiError:
    """A request that nobody waits for any more; the status is nginx's, for no other says so."""
    return ApiError(499, "the client closed the connection")
