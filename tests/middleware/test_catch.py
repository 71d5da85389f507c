import requests

from tests.conftest import Serve

SOURCE = """
    from gateway import BasePipelineWrapper, UploadFile

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, file: UploadFile) -> int:
            return file.size
"""


def test_error_that_nobody_foresaw_is_answered_inside_of_the_other_middleware(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(SOURCE)
    # The default temporary folder is gone for uploads: the form parser's own error, in the middle of a body.
    endpoint = gateway.app.routes[0].endpoint

    async def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    endpoint._bodies.read_arguments = fail
    reply = requests.post(f"{gateway.url}/w/run", files={"file": b"x" * 3_000_000}, timeout=10)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert reply.headers["X-Request-ID"]
    assert reply.json()["error"]["error_id"] in reply.json()["detail"]
    assert "No space" not in reply.text
