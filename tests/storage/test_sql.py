"""The local store: closed to others, one writer at a time, and it says so when it is newer than the package."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from attunement.errors import DataError
from attunement.storage import sql
from attunement.storage.sql import FILE, SCHEMA_VERSION, Store, metadata


def test_the_file_is_closed_to_others(tmp_path: Path) -> None:
    Store.at_home(tmp_path / "home").close()
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "home" / FILE).stat().st_mode) == 0o600


def test_a_store_of_a_newer_version_and_no_store_at_all_are_refused(tmp_path: Path) -> None:
    store = Store.at_home(tmp_path)
    with store.begin() as connection:
        connection.execute(sa.text("update schema set version = :v"), {"v": SCHEMA_VERSION + 1})
        connection.execute(sa.text("create table review_of_tomorrow (n integer)"))
        before = sa.inspect(connection).get_table_names()
    later = sa.Table("later", metadata, sa.Column("n", sa.Integer))
    with pytest.raises(DataError, match="written by a newer attunement"):
        Store.at_home(tmp_path)
    metadata.remove(later)
    with store.begin() as connection:
        assert sa.inspect(connection).get_table_names() == before  # it was looked at and left alone
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).write_bytes(b"no database, but long enough to look at" * 40)
    with pytest.raises(DataError, match="cannot be used: file is not a database"):
        Store.at_home(tmp_path / "other")


def test_writers_wait_for_one_another_and_what_fails_leaves_nothing(tmp_path: Path) -> None:
    stores = [Store.at_home(tmp_path) for _ in range(4)]
    with stores[0].begin() as connection:
        connection.execute(sa.text("create table counts (n integer)"))
        connection.execute(sa.text("insert into counts values (0)"))

    def count(store: Store) -> None:
        for _ in range(25):
            with store.begin() as connection:
                found = connection.execute(sa.text("select n from counts")).scalar_one()
                connection.execute(sa.text("update counts set n = :n"), {"n": found + 1})

    threads = [threading.Thread(target=count, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(RuntimeError), stores[0].begin() as connection:
        connection.execute(sa.text("update counts set n = 0"))
        raise RuntimeError
    with stores[1].begin() as connection:
        assert connection.execute(sa.text("select n from counts")).scalar_one() == 100


def test_a_home_may_be_called_anything(tmp_path: Path) -> None:
    Store.at_home(tmp_path / "a?b=1#c%20d").close()
    assert [p.name for p in tmp_path.iterdir()] == ["a?b=1#c%20d"]
    assert (tmp_path / "a?b=1#c%20d" / FILE).stat().st_size > 0


def test_a_store_that_another_holds_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "BUSY_SECONDS", 0.05)
    first, second = Store.at_home(tmp_path), Store.at_home(tmp_path)
    with first.begin(), pytest.raises(DataError, match="another attunement is writing to it; try again"), second.begin():
        pass
    with second.begin() as connection:  # and is open again afterwards
        assert connection.execute(sa.text("pragma journal_mode")).scalar_one() == "wal"
        assert connection.execute(sa.text("pragma foreign_keys")).scalar_one() == 1


def test_a_fault_of_ours_is_not_told_as_the_users(tmp_path: Path) -> None:
    store = Store.at_home(tmp_path)
    with pytest.raises(sa.exc.IntegrityError), store.begin() as connection:
        connection.execute(sa.text("insert into schema values (1)"))


def test_a_second_look_at_the_home_does_not_give_the_locks_of_the_first_up(tmp_path: Path) -> None:
    """POSIX: who closes any descriptor of a file loses all locks on it; another process then took the log away, with rows in it."""
    store = Store.at_home(tmp_path)
    with store.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (x INTEGER)")
    Store.at_home(tmp_path).close()  # as the thread of the retention opens one beside the service's
    other = (
        "import sys; from pathlib import Path; from attunement.storage.sql import Store\n"
        "store = Store.at_home(Path(sys.argv[1]))\n"
        "with store.begin() as connection: connection.exec_driver_sql('INSERT INTO kept VALUES (1)')\n"
        "store.close()\n"
    )
    for done in range(1, 3):
        subprocess.run([sys.executable, "-c", other, str(tmp_path)], check=True)
        with store.begin() as connection:
            connection.exec_driver_sql("INSERT INTO kept VALUES (2)")
        with store.snapshot() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM kept").scalar() == 2 * done
    store.close()
