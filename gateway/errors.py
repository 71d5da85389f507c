"""Every error the gateway raises on purpose.

GatewayError                      500
├── ConfigError                   the process cannot start: one sentence, exit 1
├── BadRequest                    400
│   ├── InvalidJSON               400  invalid_json
│   ├── InvalidMultipart          400  invalid_multipart
│   └── InvalidRequest            400  an OpenAI request, with `param`
├── NotFound                      404
│   ├── WrapperNotFound           404  wrapper_not_found
│   ├── ModelNotFound             404  model_not_found
│   └── FileNotFound              404  file_not_found
├── MethodNotAllowed              405
├── Forbidden                     403
├── Conflict                      409
├── TooLarge                      413
├── UnsupportedMediaType          415
├── InvalidArguments              422  invalid_arguments, with `details`
├── LoadError                     422  a wrapper that cannot be loaded
│   └── SignatureError            422  a run method whose signature cannot be served
├── Overloaded                    429  queue_full
├── CallerGone                    499  nobody is left to read this
├── WrapperRaised                 500  wrapper_error, with `error_id`
├── WrapperFailed                 503  wrapper_failed
├── Unavailable                   503, with `Retry-After`
│   ├── WrapperLoading            503  wrapper_loading
│   ├── QueueTimeout              503  queue_timeout
│   └── Draining                  503  draining
└── DeadlineExceeded              504

`status` is the HTTP status, `code` a stable word for programs, `type` one of OpenAI's error types.
`routes/problem.py` alone turns them into bodies.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class GatewayError(Exception):
    """An error with a sentence for the caller.

    `message`: what went wrong and where, one sentence. `details`: for 422, one mapping per fault with
    `loc`, `message` and `type`. `headers`: sent with the reply. `param`: the field at fault, in OpenAI's replies.
    """

    status = 500
    code = "internal_error"
    type = "server_error"
    param: str | None = None

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.headers = dict(headers or {})


class ConfigError(GatewayError):
    """A setting, folder or port with which the process cannot start."""

    code = "config_error"


class BadRequest(GatewayError):
    status = 400
    code = "bad_request"
    type = "invalid_request_error"


class InvalidJSON(BadRequest):
    code = "invalid_json"


class InvalidMultipart(BadRequest):
    code = "invalid_multipart"


class InvalidRequest(BadRequest):
    """`param`: the field's place, as in `messages[0].role`."""

    def __init__(self, message: str, *, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class NotFound(GatewayError):
    status = 404
    code = "not_found"
    type = "invalid_request_error"


class WrapperNotFound(NotFound):
    code = "wrapper_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"
    param = "model"


class FileNotFound(NotFound):
    code = "file_not_found"
    param = "file_id"


class MethodNotAllowed(GatewayError):
    status = 405
    code = "method_not_allowed"
    type = "invalid_request_error"


class Forbidden(GatewayError):
    status = 403
    code = "forbidden"
    type = "permission_error"


class Conflict(GatewayError):
    status = 409
    code = "conflict"
    type = "invalid_request_error"


class TooLarge(GatewayError):
    status = 413
    code = "too_large"
    type = "invalid_request_error"


class UnsupportedMediaType(GatewayError):
    status = 415
    code = "unsupported_media_type"
    type = "invalid_request_error"


class InvalidArguments(GatewayError):
    status = 422
    code = "invalid_arguments"
    type = "invalid_request_error"


class LoadError(GatewayError):
    """Says which file, and the line when there is one."""

    status = 422
    code = "load_error"
    type = "invalid_request_error"


class SignatureError(LoadError):
    code = "signature_error"


class Overloaded(GatewayError):
    status = 429
    code = "queue_full"
    type = "rate_limit_error"


class CallerGone(GatewayError):
    """The caller left before the reply began. 499 is nginx's status for it; it stands in logs only."""

    status = 499
    code = "caller_gone"
    type = "invalid_request_error"


class WrapperRaised(GatewayError):
    """An exception out of the user's code; the exception itself is `__cause__`."""

    code = "wrapper_error"


class Unavailable(GatewayError):
    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class WrapperLoading(Unavailable):
    code = "wrapper_loading"


class WrapperFailed(GatewayError):
    """No `Retry-After`: it stays so until somebody mends the wrapper."""

    status = 503
    code = "wrapper_failed"


class QueueTimeout(Unavailable):
    code = "queue_timeout"


class Draining(Unavailable):
    code = "draining"


class DeadlineExceeded(GatewayError):
    status = 504
    code = "deadline_exceeded"
    type = "timeout_error"
