import pytest
from django.test import Client


@pytest.mark.django_db
def test_a_process_that_reaches_its_database_is_healthy(client: Client) -> None:
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.django_db
def test_the_health_page_changes_nothing(client: Client) -> None:
    assert client.post("/healthz").status_code == 405
