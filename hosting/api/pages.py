"""Lists come in pages, each with the address of the next: nothing is shown twice or left out in between."""

from functools import reduce
from typing import Any

from django.db.models import QuerySet
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class Pages(CursorPagination):
    """`?limit=`: how many a page. The order is the view's."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "limit"
    page_size_query_description = "How many to a page: 50 unless told, 200 at most."
    cursor_query_description = "Where the page begins: take it from `next` or `previous`."

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        ordering: tuple[str, ...] = view.ordering
        return ordering

    def _get_position_from_instance(self, instance: Any, ordering: Any) -> str:
        """The parent class knows no fields of related rows."""
        path = ordering[0].lstrip("-").split("__")
        return str(reduce(getattr, path, instance))
