"""The REST API's addresses, and the pages that describe them."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView

urlpatterns = [
    path("v1/openapi", SpectacularAPIView.as_view(), name="openapi"),
]
