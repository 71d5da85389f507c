"""What is on record: what serves, what is kept, and who uses it. Rows of the state's database; blocks, as it does."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from gateway.standing import NOTHING, Standing
from gateway.state import State

STANDING = tuple(each.name for each in fields(Standing))

Origin = Literal["deploy", "rollback", "folder", "edit"]  # edit: what stood in the folder, and never served
USERS: tuple[Origin, ...] = ("folder", "edit")


@dataclass(frozen=True, slots=True)
class Kept:
    """A generation that is kept. `is_saved`: also in the wrappers folder. `created_at`: Unix time in seconds."""

    number: int
    origin: Origin
    description: str
    is_yaml: bool
    is_saved: bool
    created_at: int


class Records:
    def __init__(self, state: State) -> None:
        self._state = state

    def standings(self) -> dict[str, Standing]:
        """By name; also of names of which nothing but their last number is known any more."""
        with self._state.snapshot() as rows:
            found = rows.execute(f"SELECT name, {', '.join(STANDING)} FROM wrappers").fetchall()  # noqa: S608 - constants
        return {row["name"]: _standing(row) for row in found}

    def standing(self, name: str) -> Standing:
        with self._state.snapshot() as rows:
            row = rows.execute("SELECT * FROM wrappers WHERE name = ?", (name,)).fetchone()
        return NOTHING if row is None else _standing(row)

    def history(self, name: str) -> list[Kept]:
        """What can be rolled back to, newest first."""
        with self._state.snapshot() as rows:
            found = rows.execute("SELECT * FROM generations WHERE name = ? ORDER BY number DESC", (name,)).fetchall()
        return [Kept(**_values(row, (each.name for each in fields(Kept)))) for row in found]

    def next_number(self, name: str) -> int:
        """A number that no generation of this name has had."""
        with self._state.transaction() as rows:
            number = _next_number(rows, name)
            _upsert(rows, name, last_number=number)
        return number

    def propose(self, name: str, number: int, *, is_kept: bool) -> None:
        """From here on every worker prepares it."""
        self._record(name, proposed=number, is_proposed_kept=is_kept)

    def withdraw(self, name: str) -> None:
        """Every worker lets go what it has prepared."""
        self._record(name, proposed=None)

    def decide(self, name: str, standing: Standing) -> None:
        """The one row that every worker follows, and the next start."""
        self._record(name, **asdict(standing))

    def note_seen(self, name: str, digest: str) -> None:
        """What stands in the wrappers folder is what serves."""
        self._record(name, digest=digest)

    def note_failure(self, name: str, digest: str, failure: str) -> None:
        """What stands in the wrappers folder does not serve, and what has served before goes on."""
        self._record(name, digest=digest, failure=failure, proposed=None)

    def hold(self, worker: int, name: str, number: int) -> None:
        """A worker has loaded these files, and may read more of them."""
        with self._state.transaction(is_durable=False) as rows:
            rows.execute("INSERT OR IGNORE INTO uses (worker, name, number) VALUES (?, ?, ?)", (worker, name, number))

    def unfinished(self) -> list[str]:
        """The names at which a deploy was cut off."""
        return [name for name, each in self.standings().items() if each.is_unfinished]

    def keep(self, name: str, kept: Kept, *, is_durable: bool = True) -> None:
        with self._state.transaction(is_durable=is_durable) as rows:
            _insert(rows, name, kept)

    def forget(self, name: str, number: int) -> None:
        """A generation is kept no more."""
        with self._state.transaction() as rows:
            rows.execute("DELETE FROM generations WHERE name = ? AND number = ?", (name, number))

    def begin_to_publish(self, name: str, kept: Kept) -> None:
        """It is kept, and a crash from here on is brought to its end at the next start."""
        with self._state.transaction() as rows:
            _insert(rows, name, kept)
            _upsert(rows, name, publishing=kept.number)

    def abandon(self, name: str) -> None:
        """Nobody is at it any more."""
        self._record(name, proposed=None, publishing=None)

    def take_stock(self, names: Iterable[str], rule: Callable[[str, Standing, int], Standing]) -> dict[str, int]:
        """Let `rule` say of each name what is to serve; its number is the next free one. Gives those it has used."""
        new: dict[str, int] = {}
        with self._state.transaction() as rows:
            standings = self.standings()
            for name in {*names, *standings}:
                number = _next_number(rows, name)
                after = rule(name, standings.get(name, NOTHING), number)
                if after != standings.get(name):
                    _upsert(rows, name, **asdict(after))
                if after.number == number:
                    _upsert(rows, name, last_number=number)
                    new[name] = number
        return new

    def release(self, worker: int, name: str, number: int) -> None:
        with self._state.transaction(is_durable=False) as rows:
            rows.execute("DELETE FROM uses WHERE worker = ? AND name = ? AND number = ?", (worker, name, number))

    def used(self, name: str) -> set[int]:
        """The generations whose files a worker may read."""
        with self._state.snapshot() as rows:
            return {row["number"] for row in rows.execute("SELECT number FROM uses WHERE name = ?", (name,))}

    def sweep(self) -> set[tuple[str, int]]:
        """At the start of a gateway: forget the workers of the one before. Gives all that is kept: name, number."""
        with self._state.transaction() as rows:
            for table in ("workers", "answers", "uses"):
                rows.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
            return {(row["name"], row["number"]) for row in rows.execute("SELECT name, number FROM generations")}

    def _record(self, name: str, **values: Any) -> None:
        with self._state.transaction() as rows:
            _upsert(rows, name, **values)


def _standing(row: Any) -> Standing:
    return Standing(**_values(row, STANDING))


def _values(row: Any, names: Iterable[str]) -> dict[str, Any]:
    """SQLite has no booleans."""
    return {name: bool(row[name]) if name.startswith("is_") else row[name] for name in names}


def _next_number(rows: Any, name: str) -> int:
    row = rows.execute("SELECT last_number FROM wrappers WHERE name = ?", (name,)).fetchone()
    return (row["last_number"] if row else 0) + 1


def _insert(rows: Any, name: str, kept: Kept) -> None:
    values = {"name": name, **asdict(kept)}
    places = ", ".join("?" for _ in values)
    query = f"INSERT INTO generations ({', '.join(values)}) VALUES ({places})"  # noqa: S608 - of constants alone
    rows.execute(query, tuple(values.values()))


def _upsert(rows: Any, name: str, **values: Any) -> None:
    columns = ", ".join(values)
    places = ", ".join("?" for _ in values)
    updates = ", ".join(f"{key} = excluded.{key}" for key in values)
    query = f"INSERT INTO wrappers (name, {columns}) VALUES (?, {places}) ON CONFLICT (name) DO UPDATE SET {updates}"  # noqa: S608 - of constants alone
    rows.execute(query, (name, *values.values()))
