import pytest
from django.test import AsyncClient, Client

SHEET = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css"


async def test_a_static_file_comes_whole_and_without_a_warning(async_client: AsyncClient) -> None:
    response = await async_client.get(SHEET)
    assert (response.status_code, response.headers["Content-Type"]) == (
        200,
        'text/css; charset="utf-8"',
    )
    assert not response.streaming
    assert int(response.headers["Content-Length"]) == len(response.content) > 10_000


async def test_a_file_that_the_browser_has_is_not_sent_again(async_client: AsyncClient) -> None:
    first = await async_client.get(SHEET)
    since = first.headers["Last-Modified"]
    again = await async_client.get(SHEET, headers={"If-Modified-Since": since})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.django_db  # closing a response looks at the connection that an earlier test may have left
def test_a_synchronous_server_gets_the_stream(client: Client) -> None:
    response = client.get(SHEET)
    assert response.status_code == 200
    assert response.streaming
    response.close()
