"""The operators' console, below /console/."""

from django.urls import path

from frontend.console import live, views

app_name = "console"
urlpatterns = [
    path("", views.pool_list, name="pools"),
    path("pools/<uuid:uuid>/", views.pool_detail, name="pool"),
    path("pools/<uuid:uuid>/events", live.pool_events, name="pool-events"),
    path("pools/<uuid:uuid>/hosts/<uuid:host>/", views.host_detail, name="host"),
]
