from __future__ import annotations

import os
import random
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests import forking

from quietcount_producers import EmbeddedLog, LogError
from quietcount_producers.partitioner import murmur2, partition_for
from quietcount_schemas.log import LogReader, LogWriter, NewRecord

pytestmark = pytest.mark.quick


def logs_bytes(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir() if file.name.startswith(path.name))


def records(chance: random.Random, count: int) -> list[NewRecord]:
    return [NewRecord(chance.randbytes(16), chance.randbytes(chance.randrange(16, 70)), 0) for _ in range(count)]


def test_the_embedded_log_is_a_writer_and_a_reader(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        writer: LogWriter = log
        reader: LogReader = log
        assert (writer, reader) == (log, log)


@pytest.mark.parametrize(
    "key, hashed",
    [  # from the tests of Kafka's own client
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_gives_kafkas_hashes(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed % 2**32
    assert partition_for(key, 1000) == (hashed & 0x7FFFFFFF) % 1000


def test_a_record_without_a_key_goes_to_partition_0() -> None:
    assert partition_for(None, 12) == 0


def test_a_log_file_that_was_moved_away_takes_nothing_and_one_in_its_place_does(tmp_path: Path) -> None:
    """What is written to the file that is still open would be lost with it."""
    path, away = tmp_path / "log.sqlite", tmp_path / "away"
    away.mkdir()
    with EmbeddedLog(path) as log:
        log.create_topic("t")
        log.append("t", records(random.Random(1), 1))
        for file in list(tmp_path.glob("log.sqlite*")):
            file.rename(away / file.name)
        with pytest.raises(LogError):
            log.append("t", records(random.Random(1), 1))
        assert not path.exists()
        for file in list(away.iterdir()):
            file.rename(tmp_path / file.name)
        log.append("t", records(random.Random(2), 1))
        assert log.end_offsets("t") == {0: 2}
        with EmbeddedLog(path, create=False) as other:
            assert other.end_offsets("t") == {0: 2}


def test_the_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    before = os.umask(0)
    try:
        with EmbeddedLog(path) as log:
            log.create_topic("t")
            for file in tmp_path.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
            assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    finally:
        os.umask(before)


def test_a_log_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    EmbeddedLog(path).close()
    path.chmod(0o644)
    EmbeddedLog(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def purged_residue(folder: Path, logs: int) -> int:
    """Purge logs of many partitions again and again as they grow; return how many purged records left bytes."""
    left = 0
    for seed in range(logs):
        chance, path = random.Random(seed), folder / f"{seed}.sqlite"
        stored: dict[tuple[int, int], NewRecord] = {}
        before: dict[int, int] = {}
        with EmbeddedLog(path) as log:
            log.create_topic("a", 16)
            log.create_topic("b")
            for _ in range(4):
                for _ in range(25):
                    batch = records(chance, chance.choice((1, 7, 60)))
                    for record, position in zip(batch, log.append("a", batch), strict=True):
                        stored[position.partition, position.offset] = record
                    log.append("b", records(chance, 3))
                before = {p: max(0, end - chance.randrange(30)) for p, end in log.end_offsets("a").items()}
                assert log.purge("a", before)
            data = logs_bytes(path)
        gone = [record for (partition, offset), record in stored.items() if offset < before[partition]]
        kept = [record for (partition, offset), record in stored.items() if offset >= before[partition]]
        assert len(gone) > 1000
        assert any(record.value in data for record in kept)
        left += sum((record.key or b"") in data or record.value in data for record in gone if record.key)
    return left


def test_no_byte_of_a_purged_record_stays_in_the_files(tmp_path: Path) -> None:
    assert purged_residue(tmp_path, 3) == 0


@pytest.mark.check
@pytest.mark.parametrize("logs", [8, pytest.param(40, marks=pytest.mark.soak)])
def test_the_search_for_residue_finds_what_a_plain_delete_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: int
) -> None:
    """The mutant: a DELETE with secure_delete on, as one would write without knowing better."""

    def careless(self: EmbeddedLog, topic: str, before: dict[int, int]) -> bool:
        with self._transaction("purge") as cursor:
            number, _ = self._topic(cursor, topic)
            statement = 'DELETE FROM records WHERE topic = ? AND partition = ? AND "offset" < ?'
            cursor.executemany(statement, [(number, *cut) for cut in before.items()])
        return self.scrub()

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddedLog, "purge", careless)
        (tmp_path / "careless").mkdir()
        assert purged_residue(tmp_path / "careless", logs) > 0
    assert purged_residue(tmp_path, logs) == 0


def test_purging_gives_the_room_back(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with EmbeddedLog(path) as log:
        log.create_topic("t")
        empty = path.stat().st_size
        log.append("t", records(random.Random(1), 20_000))
        log.scrub()
        full = path.stat().st_size
        assert log.purge("t", log.end_offsets("t"))
        assert full > 20 * empty
        assert path.stat().st_size <= 2 * empty


def test_a_purge_under_another_reader_says_that_bytes_are_left_and_scrub_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with EmbeddedLog(path, timeout=0.2) as log:
        log.create_topic("t")
        log.append("t", [NewRecord(b"k", b"a value to be forgotten", 0)])
        reader = sqlite3.connect(path, isolation_level=None)
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM records").fetchone()
            assert not log.purge("t", {0: 1})
            assert b"to be forgotten" in logs_bytes(path)
        finally:
            reader.close()
        assert log.end_offsets("t") == log.beginning_offsets("t") == {0: 1}
        assert log.scrub()
        assert b"to be forgotten" not in logs_bytes(path)


def test_threads_share_one_log(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.create_topic("t")

        def append() -> None:
            for _ in range(20):
                log.append("t", [NewRecord(b"k", b"v", 0)])

        threads = [threading.Thread(target=append) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.end_offsets("t") == {0: 40}


def test_many_processes_may_create_one_log_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    source = (
        "import pathlib, quietcount_producers as q\n"
        f"log = q.EmbeddedLog(pathlib.Path({str(path)!r}))\nprint(log.create_topic('t'))\nlog.close()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    children = [
        forking.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment) for _ in range(6)
    ]
    answers = [each.communicate(timeout=60)[0] for each in children]
    assert [each.returncode for each in children] == [0] * 6
    assert len(set(answers)) == 1
    assert {file.name for file in tmp_path.iterdir()} == {path.name}


# What a person can cause


def test_a_missing_log_is_refused_where_it_may_not_be_made(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="There is no log at"):
        EmbeddedLog(tmp_path / "log.sqlite", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    EmbeddedLog(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LogError, match="Upgrade quietcount"):
        EmbeddedLog(path)


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(content)
    with pytest.raises(LogError, match="not a"):
        EmbeddedLog(path)
    assert path.read_bytes() == content


def test_another_sqlite_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE records (a)")
    connection.close()
    with pytest.raises(LogError, match="not a quietcount log"):
        EmbeddedLog(path)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match="Check that the folder exists"):
        EmbeddedLog(tmp_path / "file" / "log.sqlite")


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    """The modes of a folder do not bind root, who may run the tests: a kernel file system that takes no files does."""
    with pytest.raises(LogError, match="Cannot create the log"):
        EmbeddedLog(Path("/proc/self/log.sqlite"))


def test_a_log_that_is_held_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with EmbeddedLog(path, timeout=0.1) as log:
        log.create_topic("t")
        holder = sqlite3.connect(path, isolation_level=None)
        try:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(LogError, match="another process has held it for too long"):
                log.append("t", [NewRecord(None, b"v", 0)])
        finally:
            holder.close()
        log.append("t", [NewRecord(None, b"v", 0)])
        assert log.end_offsets("t") == {0: 1}


DAMAGES = {
    "a column": "UPDATE topics SET id = CAST(x'ff5ec2' AS TEXT)",
    "headers": "UPDATE records SET headers = CAST(replace(headers, 'reason', x'ff5ec2ff5ec2') AS BLOB)",
    "headers cut short": "UPDATE records SET headers = x'00'",
    "the schema": "UPDATE sqlite_schema SET sql = CAST('CREATE TABLE topics (' || x'ff5ec2' || ' nonsense' AS TEXT)",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log_says_so_and_repeats_nothing_of_it(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.sqlite"
    with EmbeddedLog(path) as log:
        log.create_topic("t")
        log.append("t", [NewRecord(b"k", b"v", 0, (("reason", b"x"),))])
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(DAMAGES[damage])
    connection.close()

    def read() -> None:
        with EmbeddedLog(path) as log:
            log.topic_id("t")
            log.poll("t", {0: 0}, {0: 1}, 1)

    with pytest.raises(LogError, match=r"or it is damaged\. Check data_dir") as caught:
        read()
    assert str(path) in str(caught.value)
    assert "\ufffd" not in str(caught.value)
    assert "nonsense" not in str(caught.value)


def test_another_partition_count_is_refused(tmp_path: Path) -> None:
    with EmbeddedLog(tmp_path / "log.sqlite") as log:
        log.create_topic("t", 2)
        with pytest.raises(LogError, match="cannot change"):
            log.create_topic("t", 3)


def test_a_full_disk_loses_the_failed_append_alone(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: it needs no rights and meets the same call."""
    path = tmp_path / "log.sqlite"
    with EmbeddedLog(path) as log:
        log.create_topic("t")
        log.append("t", [NewRecord(b"k", b"before", 0)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(LogError, match=r"full|space") as caught:
                log.append("t", [NewRecord(b"k", b"x" * 400, 0)] * 2000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert str(path) in str(caught.value)
        assert log.end_offsets("t") == {0: 1}
        log.append("t", [NewRecord(b"k", b"after", 0)])
        assert [r.value for r in log.poll("t", {0: 0}, {0: 9}, 9)] == [b"before", b"after"]
