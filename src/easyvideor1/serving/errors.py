"""Errors of a request, in the format of OpenAI's API."""

from __future__ import annotations

from typing import Any

from easyvideor1.types import EasyVideoError

#: HTTP status -> ``type`` of the error object. Clients choose by the status.
_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class RequestError(EasyVideoError):
    """A request that gets no answer.

    Args:
        message: what is wrong, where, and what to do; the client reads it.
        status: the HTTP status.
        param: the field of the request that is wrong, such as ``messages[0].content[1]``; empty if none is.
        code: a short label for programs; empty if there is none.
    """

    def __init__(self, message: str, *, status: int = 400, param: str = "", code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        fields = {"message": str(self), "type": kind, "param": self.param or None, "code": self.code or None}
        return {"error": fields}
