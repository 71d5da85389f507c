import requests

from tests.conftest import Serve

SOURCE = """
    from gateway import BasePipelineWrapper

    class PipelineWrapper(BasePipelineWrapper):
        def run_api(self, name: str) -> str:
            return f"Hello, {name}!"
"""


def test_run_answers_the_result(serve_wrapper: Serve) -> None:
    gateway = serve_wrapper(SOURCE)
    reply = requests.post(f"{gateway.url}/w/run", json={"name": "World"}, timeout=10)
    assert (reply.status_code, reply.json()) == (200, {"result": "Hello, World!"})
