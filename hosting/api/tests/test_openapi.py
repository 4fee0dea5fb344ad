import json
import re

import pytest
from django.core.management import call_command
from django.test import Client

from hosting.api.tests.test_every_endpoint import EXPECTED

pytestmark = pytest.mark.django_db


def test_the_api_describes_itself_as_openapi_3_1(client: Client) -> None:
    response = client.get("/api/v1/openapi", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert json.loads(response.content)["openapi"] == "3.1.0"


def test_the_description_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn")
    assert "openapi: 3.1.0" in capsys.readouterr().out


def test_every_route_is_described_with_its_problems(client: Client) -> None:
    response = client.get("/api/v1/openapi", headers={"Accept": "application/vnd.oai.openapi+json"})
    paths = json.loads(response.content)["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert len(described) == len(EXPECTED)
    for methods in paths.values():
        for method, told in methods.items():
            assert "application/problem+json" in told["responses"]["default"]["content"]
            headers = {one["name"] for one in told.get("parameters", []) if one["in"] == "header"}
            assert ("Idempotency-Key" in headers) == (method == "post")


def test_its_pages_load_nothing_from_elsewhere_and_run_nothing_inline(client: Client) -> None:
    response = client.get("/api/v1/")
    page = response.content.decode()
    assert re.findall(r'(?:src|href)="(?!/)([^"]*)"', page) == []
    assert re.findall(r"<script(?![^>]*src=)", page) == []
    nonce = re.search(
        r"style-src 'self' 'nonce-([^']+)'", response.headers["Content-Security-Policy"]
    )
    assert nonce is not None
    assert f'<style nonce="{nonce[1]}">' in page
