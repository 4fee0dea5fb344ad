"""A tenant's pages, below /t/<slug>/."""

from django.urls import path

from frontend.dashboard import live
from frontend.dashboard.views import activity, containers, images, people

app_name = "dashboard"
urlpatterns = [
    path("", containers.container_list, name="containers"),
    path("events", live.tenant_events, name="events"),
    path("containers/new", containers.container_new, name="container-new"),
    path("containers/<uuid:uuid>/", containers.container_detail, name="container"),
    path("containers/<uuid:uuid>/output", containers.container_output, name="container-output"),
    *(
        path(
            f"containers/<uuid:uuid>/{verb}",
            containers.container_ask,
            {"verb": verb},
            name=f"container-{verb}",
        )
        for verb in ("start", "stop", "restart")
    ),
    path("containers/<uuid:uuid>/cancel", containers.container_cancel, name="container-cancel"),
    path("containers/<uuid:uuid>/resize", containers.container_resize, name="container-resize"),
    path("containers/<uuid:uuid>/delete", containers.container_delete, name="container-delete"),
    path("images/", images.image_list, name="images"),
    path("images/new", images.image_new, name="image-new"),
    path("images/<uuid:uuid>/refresh", images.image_refresh, name="image-refresh"),
    path("images/<uuid:uuid>/cancel", images.image_cancel, name="image-cancel"),
    path("images/<uuid:uuid>/remove", images.image_remove, name="image-remove"),
    path("activity/", activity.activity, name="activity"),
    path("quota/", activity.quota, name="quota"),
    path("people/", people.people, name="people"),
    path("people/<int:number>/role", people.member_role, name="member-role"),
    path("people/<int:number>/remove", people.member_remove, name="member-remove"),
    path("tokens/", people.tokens, name="tokens"),
    path("tokens/new", people.token_new, name="token-new"),
    path("tokens/<uuid:uuid>/revoke", people.token_revoke, name="token-revoke"),
]
