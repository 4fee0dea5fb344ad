"""The REST API's addresses, and the pages that describe them."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

urlpatterns = [
    path("v1/openapi", SpectacularAPIView.as_view(), name="openapi"),
    path(
        "v1/",
        SpectacularSwaggerSplitView.as_view(
            url_name="openapi", template_name="api/swagger.html", title="Bulkhead API"
        ),
        name="api-pages",
    ),
]
