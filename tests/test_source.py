import os
from pathlib import Path

import pytest

from gateway.source import Fingerprints, has_same_code, is_ignored


def test_fingerprint_sees_an_edit_that_keeps_time_and_size(tmp_path: Path) -> None:
    """As `rsync --times --inplace` makes it."""
    file = tmp_path / "a.py"
    file.write_text("one")
    os.utime(file, (1, 1))
    fingerprints = Fingerprints()
    before = fingerprints.of(tmp_path)
    file.write_text("two")
    os.utime(file, (1, 1))
    assert fingerprints.of(tmp_path) != before


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("pipeline_wrapper.py", False),
        ("part/of/it.py", False),
        ("chat.yml", False),
        ("index.db", True),
        ("words/prompt.txt", True),
    ],
)
def test_has_same_code_after_a_change_of_data_alone(tmp_path: Path, place: str, expected: bool) -> None:
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    found = []
    for content in ("one", "two"):
        file.write_text(content)
        found.append(Fingerprints().of(tmp_path))
    assert (has_same_code(*found), found[0] == found[1]) == (expected, False)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("w/pipeline_wrapper.py", False),
        ("w/.env", False),
        ("w.yml", False),
        (".gateway/gateway.db", True),
        ("w/.git/index", True),
        ("w/__pycache__/a.pyc", True),
        ("w/.a.py.swp", True),
        ("w/.pipeline_wrapper.py.0a1b2c3d.part", True),
    ],
)
def test_is_ignored(place: str, expected: bool) -> None:
    assert is_ignored(Path(place)) is expected
