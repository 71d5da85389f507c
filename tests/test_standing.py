"""What a start makes of what is on record: each row is called after what has happened to the user."""

import pytest

from gateway.standing import NOTHING, Standing, at_start, changed

NEXT = 9  # the number that is free
FOLDER = Standing(3, digest="a")
KEPT = Standing(3, is_kept=True, digest="a")
UNSAVED = Standing(3, is_kept=True)
DOWN = Standing(3, digest="a", is_undeployed=True)
REFUSED = "the name 'status' is reserved"
# what was on record, the digest that is found, the fault of what is found, what is to be
AT_START: dict[str, tuple[Standing, str, str | None, Standing]] = {
    "a folder was dropped": (NOTHING, "a", None, Standing(NEXT, digest="a")),
    "a folder was dropped whose name is refused": (NOTHING, "a", REFUSED, Standing(digest="a", failure=REFUSED)),
    "a wrapper that was deleted long ago stays away": (NOTHING, "", None, NOTHING),
    "nothing has happened to a folder": (FOLDER, "a", None, FOLDER),
    "a folder was edited": (FOLDER, "b", None, Standing(NEXT, digest="b")),
    "a folder was deleted": (FOLDER, "", None, NOTHING),
    "a folder has lost its right to be read": (FOLDER, "a", REFUSED, Standing(digest="a", failure=REFUSED)),
    "a folder that had failed is tried once more": (
        Standing(3, digest="a", failure="no index"),
        "a",
        None,
        Standing(NEXT, digest="a"),
    ),
    "a folder that had been refused can be read again": (
        Standing(digest="a", failure=REFUSED),
        "a",
        None,
        Standing(NEXT, digest="a"),
    ),
    "a folder that had failed was deleted": (Standing(3, digest="a", failure="no index"), "", None, NOTHING),
    "nothing has happened to what the API deployed": (KEPT, "a", None, KEPT),
    "the copy of what the API deployed was edited": (KEPT, "b", None, KEPT),
    "the copy of what the API deployed was deleted": (KEPT, "", None, NOTHING),
    "an edit of the copy had failed and is tried once more": (
        Standing(3, is_kept=True, digest="b", failure="no index"),
        "b",
        None,
        UNSAVED,
    ),
    "an edit of the copy had failed and was edited again": (
        Standing(3, is_kept=True, digest="b", failure="no index"),
        "c",
        None,
        UNSAVED,
    ),
    "an edit of the copy had failed and was deleted": (
        Standing(3, is_kept=True, digest="b", failure="no index"),
        "",
        None,
        NOTHING,
    ),
    "nothing has happened to what was not saved": (UNSAVED, "", None, UNSAVED),
    "a folder was dropped beside what was not saved": (UNSAVED, "a", None, UNSAVED),
    "a folder that cannot be read was put beside what was not saved": (
        UNSAVED,
        "a",
        REFUSED,
        Standing(digest="a", failure=REFUSED),
    ),
    "nothing has happened to what was taken down": (DOWN, "a", None, DOWN),
    "what was taken down cannot be read and stays down": (DOWN, "a", REFUSED, DOWN),
    "what was taken down was edited": (DOWN, "b", None, Standing(NEXT, digest="b")),
    "what was taken down was edited and cannot be read": (
        DOWN,
        "b",
        REFUSED,
        Standing(digest="b", failure=REFUSED),
    ),
    "what was taken down was deleted": (DOWN, "", None, NOTHING),
    "the copy of what the API deployed was edited after it was taken down": (
        Standing(3, is_kept=True, digest="a", is_undeployed=True),
        "b",
        None,
        Standing(NEXT, digest="b"),
    ),
    "what was not saved was taken down": (
        Standing(3, is_kept=True, is_undeployed=True),
        "",
        None,
        Standing(3, is_kept=True, is_undeployed=True),
    ),
    "a folder was dropped after what was not saved was taken down": (
        Standing(3, is_kept=True, is_undeployed=True),
        "a",
        None,
        Standing(NEXT, digest="a"),
    ),
    "a deploy was cut off before it was decided": (
        Standing(3, digest="a", proposed=4, is_proposed_kept=True),
        "a",
        None,
        Standing(3, digest="a", is_proposed_kept=True),
    ),
    "a deploy was cut off over what the API had deployed": (
        Standing(3, is_kept=True, digest="a", proposed=4),
        "a",
        None,
        KEPT,
    ),
    "a restore was cut off": (Standing(3, digest="a", is_undeployed=True, proposed=3), "a", None, DOWN),
    "a copy could not be ended and is left for the next start": (
        Standing(3, is_kept=True, digest="a", publishing=4),
        "b",
        None,
        Standing(3, is_kept=True, digest="a", publishing=4),
    ),
}


BROKEN = Standing(3, digest="b", failure="no index")
# of a folder of which there is a copy, because it has served
WITH_COPY: dict[str, tuple[Standing, str, str | None, Standing]] = {
    "nothing has happened": (FOLDER, "a", None, FOLDER),
    "it was edited": (FOLDER, "b", None, Standing(NEXT, digest="b")),
    "it was deleted": (FOLDER, "", None, NOTHING),
    "an edit had failed and is tried once more": (BROKEN, "b", None, Standing(3)),
    "an edit had failed and was edited again": (BROKEN, "c", None, Standing(3)),
    "an edit had failed and was deleted": (BROKEN, "", None, NOTHING),
    "an edit had failed and cannot be read": (BROKEN, "b", REFUSED, Standing(digest="b", failure=REFUSED)),
    "it was taken down": (DOWN, "a", None, DOWN),
    "it was taken down and edited": (DOWN, "b", None, Standing(NEXT, digest="b")),
}


@pytest.mark.parametrize("case", AT_START)
def test_at_start(case: str) -> None:
    standing, digest, fault, expected = AT_START[case]
    assert at_start(standing, digest, fault, NEXT) == expected


@pytest.mark.parametrize("case", WITH_COPY)
def test_at_start_of_what_there_is_a_copy_of(case: str) -> None:
    standing, digest, fault, expected = WITH_COPY[case]
    assert at_start(standing, digest, fault, NEXT, has_copy=True) == expected


@pytest.mark.parametrize("case", AT_START)
def test_second_start_changes_nothing_but_what_is_tried_again(case: str) -> None:
    standing, digest, fault, _ = AT_START[case]
    once = at_start(standing, digest, fault, NEXT)
    assert at_start(once, digest, fault, NEXT + 1) == once


# what is on record, what is found, the names to follow
CHANGED: dict[str, tuple[dict[str, Standing], dict[str, str], list[str]]] = {
    "an empty folder": ({}, {}, []),
    "nothing has happened": ({"w": FOLDER, "k": KEPT}, {"w": "a", "k": "a"}, []),
    "two folders were dropped": ({}, {"b": "x", "a": "y"}, ["a", "b"]),
    "one of two was edited": ({"w": FOLDER, "k": KEPT}, {"w": "b", "k": "a"}, ["w"]),
    "one was deleted": ({"w": FOLDER, "k": KEPT}, {"k": "a"}, ["w"]),
    "one was deleted that is known no more": ({"w": NOTHING}, {}, []),
    "one came back that was known no more": ({"w": NOTHING}, {"w": "a"}, ["w"]),
    "the copy of what the API deployed was deleted": ({"k": KEPT}, {}, ["k"]),
    "what is not saved stands nowhere": ({"k": UNSAVED}, {}, []),
    "a folder was dropped beside what is not saved": ({"k": UNSAVED}, {"k": "a"}, ["k"]),
    "a broken edit stands as it stood": ({"k": Standing(3, is_kept=True, digest="b", failure="x")}, {"k": "b"}, []),
    "a broken edit was mended": ({"k": Standing(3, is_kept=True, digest="b", failure="x")}, {"k": "c"}, ["k"]),
    "what is refused stands as it stood": ({"status": Standing(digest="a", failure=REFUSED)}, {"status": "a"}, []),
    "what was taken down stands as it stood": ({"w": DOWN}, {"w": "a"}, []),
    "what was taken down was edited": ({"w": DOWN}, {"w": "b"}, ["w"]),
    "what was taken down was deleted": ({"w": DOWN}, {}, ["w"]),
}


@pytest.mark.parametrize("case", CHANGED)
def test_changed(case: str) -> None:
    standings, present, expected = CHANGED[case]
    assert changed(standings, present) == expected


@pytest.mark.parametrize(
    ("standing", "expected"),
    [(NOTHING, False), (FOLDER, False), (Standing(proposed=1), True), (Standing(3, publishing=4), True)],
)
def test_is_unfinished(standing: Standing, *, expected: bool) -> None:
    assert standing.is_unfinished is expected


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (NOTHING, False),
        (FOLDER, True),
        (Standing(failure="x"), True),
        (Standing(is_undeployed=True), True),
        (Standing(digest="a", proposed=1), False),
    ],
)
def test_is_known(standing: Standing, *, expected: bool) -> None:
    assert standing.is_known is expected
