"""What is on record of a wrapper, and what a start makes of it: pure rules over the digests of the wrappers folder."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gateway.source import has_same_code


@dataclass(frozen=True, slots=True)
class Standing:
    """`number`: the generation that is to serve, None for none; `is_kept`: its files are those that are kept for it.

    `digest`: of what stood in the wrappers folder when that was decided, "" for nothing; anything else there is a
    newer edit. `failure`: why what stands there does not serve. `proposed`: what the workers are to prepare.
    `publishing`: the generation whose copy is being made; a crash has left it half done.
    """

    number: int | None = None
    is_kept: bool = False
    digest: str = ""
    failure: str | None = None
    is_undeployed: bool = False
    proposed: int | None = None
    is_proposed_kept: bool = False
    publishing: int | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is a wrapper of this name."""
        return self.number is not None or self.failure is not None or self.is_undeployed

    @property
    def is_unfinished(self) -> bool:
        """Whoever was at it has not come to its end. In one's own turn: has died."""
        return self.publishing is not None or self.proposed is not None


NOTHING = Standing()


def at_start(standing: Standing, digest: str, fault: str | None, number: int, *, has_copy: bool = False) -> Standing:
    """What is to serve when a gateway starts. `number`: the next that is free; `fault`: see `Found`; `has_copy`: what
    serves is kept, whoever has brought it.

    What the API has deployed goes on serving though its copy was edited meanwhile: the edit follows once it serves. So
    does what had served beside an edit that failed.
    """
    calm = replace(standing, proposed=None)
    if standing.is_undeployed and has_same_code(standing.digest, digest):
        return replace(calm, digest=digest)
    if not digest and not (standing.is_kept and not standing.digest):
        return NOTHING  # it is gone from the folder
    if fault is not None:
        return Standing(digest=digest, failure=fault)
    if standing.failure is not None and (has_copy or standing.is_kept) and not standing.is_undeployed:
        return replace(calm, digest="", failure=None)  # tried once more
    if standing.is_kept and not standing.is_undeployed:
        return calm
    is_same = standing.number is not None and standing.digest == digest and standing.failure is None
    return calm if is_same and not standing.is_undeployed else Standing(number, digest=digest)


def changed(standings: Mapping[str, Standing], present: Mapping[str, str]) -> list[str]:
    """The names whose part of the wrappers folder is not what was last seen of it. `present`: name → digest."""
    names = {*present, *(name for name, standing in standings.items() if standing.digest)}
    return sorted(name for name in names if standings.get(name, NOTHING).digest != present.get(name, ""))
