"""What is deployed: an immutable snapshot `name -> entry`. A deploy swaps it, a request holds what it began with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from gateway.errors import NotFound, WrapperFailed, WrapperLoading, WrapperNotFound
from gateway.limiter import Limiter
from gateway.signature import Signature
from gateway.wrapper import Limits

State = Literal["serving", "loading", "failed", "undeployed"]


@dataclass(frozen=True, slots=True)
class Method:
    """A run method of an instance. `is_async`: to be called on the event loop. `signature`: None but for `run_api`.

    `headers_parameter`: the name of the parameter that takes the request's headers, None when it has none.
    """

    name: str
    call: Callable[..., Any]
    is_async: bool
    signature: Signature | None
    headers_parameter: str | None = None


class Leases:
    """Counts who holds a generation. `retire(close)`: call `close` when nobody does any more. On the event loop."""

    __slots__ = ("_close", "count")

    def __init__(self) -> None:
        self.count = 0
        self._close: Callable[[], object] | None = None

    def take(self) -> None:
        self.count += 1

    def release(self) -> None:
        self.count -= 1
        self._heed()

    def retire(self, close: Callable[[], object]) -> None:
        self._close = close
        self._heed()

    def _heed(self) -> None:
        if self.count == 0 and self._close is not None:
            close, self._close = self._close, None
            close()


@dataclass(frozen=True, slots=True)
class Deployment:
    """One loaded generation of a wrapper. `package`: of its modules, None for a YAML pipeline, which has none.

    `methods`: by the name of the sync form; the async form stands there when both exist. `limits`: the wrapper's own
    over the server's. `loaded_at`: Unix time in seconds. `threads`, `tasks`: places for sync and for async runs, the
    same object when `max_concurrency` is set.
    """

    name: str
    generation: int
    package: str | None
    path: Path
    instance: Any
    methods: Mapping[str, Method]
    limits: Limits
    loaded_at: float
    threads: Limiter = field(repr=False)
    tasks: Limiter = field(repr=False)
    leases: Leases = field(repr=False, default_factory=Leases)

    def method(self, name: str) -> Method:
        """Raises `NotFound` when the wrapper does not have it."""
        try:
            return self.methods[name]
        except KeyError:
            raise NotFound(f"wrapper {self.name} has no {name}(): it answers {', '.join(self.methods)}") from None

    def limiter(self, method: Method) -> Limiter:
        return self.tasks if method.is_async else self.threads

    @property
    def limiters(self) -> set[Limiter]:
        return {self.threads, self.tasks}


@dataclass(frozen=True, slots=True)
class Entry:
    """A wrapper that is known. `failure`: why it does not serve, or, beside a deployment, why its last change does not.

    `is_undeployed`: it was taken down, and stands where it stood.
    """

    name: str
    deployment: Deployment | None = None
    failure: str | None = None
    is_undeployed: bool = False

    @property
    def state(self) -> State:
        if self.deployment is not None:
            return "serving"
        if self.is_undeployed:
            return "undeployed"
        return "loading" if self.failure is None else "failed"


class Registry:
    """Holds the snapshot. Written on the event loop's thread only.

    `is_scanned`: the folder has been looked at, so that a name that is not there does not exist.
    """

    def __init__(self) -> None:
        self.is_scanned = False
        self.snapshot: Mapping[str, Entry] = MappingProxyType({})

    def put(self, *entries: Entry) -> None:
        """Swap in a snapshot with these entries in the place of those of the same names."""
        merged = {**self.snapshot, **{entry.name: entry for entry in entries}}
        is_grown = len(merged) > len(self.snapshot)  # else each stands where it stood: a start puts one after the other
        self.snapshot = MappingProxyType(dict(sorted(merged.items())) if is_grown else merged)

    def drop(self, name: str) -> None:
        """Swap in a snapshot without this name."""
        self.snapshot = MappingProxyType({key: entry for key, entry in self.snapshot.items() if key != name})

    def find(self, name: str) -> Entry:
        """Raises `WrapperNotFound` (404) with the nearest name, `WrapperLoading` (503) before the folder is known."""
        entry = self.snapshot.get(name)
        if entry is None and not self.is_scanned:
            raise WrapperLoading("the wrappers are still being looked for; try again in a moment")
        if entry is None:
            near = get_close_matches(name[:64], self.snapshot, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise WrapperNotFound(f"there is no wrapper {name[:64]!r}{hint}")
        return entry

    def get(self, name: str) -> Deployment:
        """What serves under this name. Raises `WrapperNotFound` (404), `WrapperLoading` or `WrapperFailed` (503)."""
        entry = self.find(name)
        if entry.deployment is not None:
            return entry.deployment
        if entry.is_undeployed:
            raise WrapperNotFound(f"wrapper {name} has been taken down")
        if entry.failure is None:
            raise WrapperLoading(f"wrapper {name} is still loading; try again in a moment")
        raise WrapperFailed(f"wrapper {name} failed to load; its reason stands in /status")
