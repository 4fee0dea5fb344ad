"""The REST API's addresses, and the pages that describe them."""

from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from hosting.api.views import alarms, containers, fleet, images, operations, tenants
from hosting.api.views.nowhere import Nowhere

_tenant = [
    path("members", tenants.Members.as_view(), name="tenant-members"),
    path("quota", tenants.QuotaView.as_view(), name="tenant-quota"),
    path("tokens", tenants.Tokens.as_view(), name="tenant-tokens"),
    path("tokens/<uuid:uuid>", tenants.OneToken.as_view(), name="tenant-token"),
    path("containers", containers.Containers.as_view(), name="tenant-containers"),
    path("containers/<uuid:uuid>", containers.OneContainer.as_view(), name="tenant-container"),
    path("containers/<uuid:uuid>/start", containers.Start.as_view(), name="tenant-container-start"),
    path("containers/<uuid:uuid>/stop", containers.Stop.as_view(), name="tenant-container-stop"),
    path(
        "containers/<uuid:uuid>/restart",
        containers.Restart.as_view(),
        name="tenant-container-restart",
    ),
    path(
        "containers/<uuid:uuid>/output", containers.Output.as_view(), name="tenant-container-output"
    ),
    path("images", images.Images.as_view(), name="tenant-images"),
    path("images/<uuid:uuid>", images.OneImage.as_view(), name="tenant-image"),
    path("images/<uuid:uuid>/refresh", images.RefreshImage.as_view(), name="tenant-image-refresh"),
    path("operations", operations.TenantOperations.as_view(), name="tenant-operations"),
    path(
        "operations/<uuid:uuid>",
        operations.waiting(operations.TenantOperation),
        name="tenant-operation",
    ),
    path(
        "operations/<uuid:uuid>/events",
        operations.TenantOperationEvents.as_view(),
        name="tenant-operation-events",
    ),
    path(
        "operations/<uuid:uuid>/cancel",
        operations.CancelTenantOperation.as_view(),
        name="tenant-operation-cancel",
    ),
]

_fleet = [
    path("pools", fleet.PoolsView.as_view(), name="pools"),
    path("pools/<uuid:uuid>", fleet.OnePool.as_view(), name="pool"),
    path("pools/<uuid:uuid>/hosts", fleet.HostsOfPool.as_view(), name="pool-hosts"),
    path("hosts/<uuid:uuid>", fleet.OneHost.as_view(), name="host"),
    path("hosts/<uuid:uuid>/cordon", fleet.Cordon.as_view(), name="host-cordon"),
    path("hosts/<uuid:uuid>/uncordon", fleet.Uncordon.as_view(), name="host-uncordon"),
    path("hosts/<uuid:uuid>/drain", fleet.Drain.as_view(), name="host-drain"),
    path("hosts/<uuid:uuid>/return", fleet.Return.as_view(), name="host-return"),
    path("hosts/<uuid:uuid>/repaired", fleet.Repaired.as_view(), name="host-repaired"),
    path("hosts/<uuid:uuid>/confirm-off", fleet.ConfirmOff.as_view(), name="host-confirm-off"),
    path("hosts/<uuid:uuid>/instances", fleet.InstancesOfHost.as_view(), name="host-instances"),
    path("operations", operations.FleetOperations.as_view(), name="operations"),
    path("operations/<uuid:uuid>", operations.waiting(operations.FleetOperation), name="operation"),
    path(
        "operations/<uuid:uuid>/events",
        operations.FleetOperationEvents.as_view(),
        name="operation-events",
    ),
    path(
        "operations/<uuid:uuid>/cancel",
        operations.CancelFleetOperation.as_view(),
        name="operation-cancel",
    ),
    path(
        "operations/<uuid:uuid>/wake",
        operations.WakeFleetOperation.as_view(),
        name="operation-wake",
    ),
    path("alarms", alarms.Alarms.as_view(), name="alarms"),
]

routes: list[URLPattern | URLResolver] = [
    path("me", tenants.Me.as_view(), name="me"),
    path("tenants", tenants.Tenants.as_view(), name="tenants"),
    path("tenants/<slug:slug>", tenants.OneTenant.as_view(), name="tenant"),
    path("tenants/<slug:slug>/", include(_tenant)),
    *_fleet,
]

urlpatterns = [
    path("v1/openapi", SpectacularAPIView.as_view(), name="openapi"),
    path(
        "v1/",
        SpectacularSwaggerSplitView.as_view(
            url_name="openapi", template_name="api/swagger.html", title="Bulkhead API"
        ),
        name="api-pages",
    ),
    path("v1/", include(routes)),
    path("v1/<path:rest>", Nowhere.as_view()),
]
