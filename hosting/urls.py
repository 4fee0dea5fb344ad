"""All addresses."""

from django.contrib import admin
from django.urls import include, path

from hosting.api.health import healthz

handler500 = "hosting.api.errors.server_error"

urlpatterns = [
    path("healthz", healthz),
    path("api/", include("hosting.api.urls")),
    path("admin/", admin.site.urls),
    path("", include("frontend.urls")),
]
