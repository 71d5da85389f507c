from pathlib import Path

import pytest

from gateway.errors import NotFound, WrapperFailed, WrapperLoading, WrapperNotFound
from gateway.limiter import Limiter
from gateway.registry import Deployment, Entry, Method, Registry
from gateway.wrapper import Limits


def make(name: str) -> Deployment:
    method = Method("run_api", lambda: None, False, None)
    places = Limiter(1, 0, 1)
    return Deployment(name, 1, f"p.{name}_1", Path(name), object(), {"run_api": method}, Limits(), 0.0, places, places)


def test_put_swaps_the_snapshot_and_leaves_the_old_one() -> None:
    registry = Registry()
    registry.put(Entry("b"), Entry("a"))
    old = registry.snapshot
    serving = Entry("a", make("a"))
    registry.put(serving)
    assert (list(old.items()), list(registry.snapshot.items())) == (
        [("a", Entry("a")), ("b", Entry("b"))],
        [("a", serving), ("b", Entry("b"))],
    )
    with pytest.raises(TypeError):
        registry.snapshot["c"] = Entry("c")  # type: ignore[index]


def test_state_of_an_entry() -> None:
    assert [Entry("a").state, Entry("a", failure="x").state, Entry("a", make("a")).state] == [
        "loading",
        "failed",
        "serving",
    ]


def test_get_gives_the_deployment() -> None:
    registry = Registry()
    deployment = make("a")
    registry.put(Entry("a", deployment))
    assert registry.get("a") is deployment
    assert deployment.method("run_api") is deployment.methods["run_api"]


def test_get_says_why_there_is_none() -> None:
    registry = Registry()
    with pytest.raises(WrapperLoading, match=r"^the wrappers are still being looked for"):
        registry.get("my_pipeline")
    registry.put(Entry("my_pipeline"), Entry("broken", failure="secret reason"))
    registry.is_scanned = True
    with pytest.raises(WrapperLoading) as loading:
        registry.get("my_pipeline")
    assert (loading.value.status, loading.value.headers) == (503, {"Retry-After": "1"})
    with pytest.raises(WrapperFailed) as failed:
        registry.get("broken")
    assert (failed.value.status, "secret" in failed.value.message) == (503, False)
    with pytest.raises(WrapperNotFound, match=r"there is no wrapper 'my_pipelin'; did you mean my_pipeline\?"):
        registry.get("my_pipelin")
    with pytest.raises(WrapperNotFound, match=r"^there is no wrapper 'zzz'$"):
        registry.get("zzz")


def test_method_says_what_the_wrapper_answers() -> None:
    with pytest.raises(NotFound, match=r"wrapper a has no run_response\(\): it answers run_api"):
        make("a").method("run_response")
