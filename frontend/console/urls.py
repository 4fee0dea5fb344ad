"""The operators' console, below /console/."""

from django.urls import path

from frontend.console import live
from frontend.console.views import alarms, hosts, instances, operations, pools, tenants

app_name = "console"
urlpatterns = [
    path("", pools.pool_list, name="pools"),
    path("events", live.fleet_events, name="events"),
    path("pools/<uuid:uuid>/", pools.pool_detail, name="pool"),
    path("pools/<uuid:uuid>/events", live.pool_events, name="pool-events"),
    path("pools/<uuid:uuid>/hosts/<uuid:host>/", hosts.host_detail, name="host"),
    path("hosts/<uuid:uuid>/", hosts.host_anywhere, name="host-anywhere"),
    path("hosts/<uuid:uuid>/cordon", hosts.cordon, name="host-cordon"),
    path("hosts/<uuid:uuid>/uncordon", hosts.uncordon, name="host-uncordon"),
    path("hosts/<uuid:uuid>/drain", hosts.drain, name="host-drain"),
    path("hosts/<uuid:uuid>/cancel-drain", hosts.cancel_drain, name="host-cancel-drain"),
    path("hosts/<uuid:uuid>/return", hosts.return_to_service, name="host-return"),
    path("hosts/<uuid:uuid>/repaired", hosts.repaired, name="host-repaired"),
    path("hosts/<uuid:uuid>/confirm-off", hosts.confirm_off, name="host-confirm-off"),
    path("instances/<uuid:uuid>/vm-is-gone", instances.vm_is_gone, name="vm-is-gone"),
    path("operations/", operations.operation_list, name="operations"),
    path("operations/<uuid:uuid>/", operations.operation_detail, name="operation"),
    path("operations/<uuid:uuid>/cancel", operations.cancel, name="operation-cancel"),
    path("operations/<uuid:uuid>/wake", operations.wake, name="operation-wake"),
    path("alarms/", alarms.alarm_list, name="alarms"),
    path("alarms/<int:number>/acknowledge", alarms.acknowledge, name="alarm-acknowledge"),
    path("runbooks/<slug:code>/", alarms.runbook, name="runbook"),
    path("tenants/", tenants.tenant_list, name="tenants"),
    path("tenants/new", tenants.new_tenant, name="new-tenant"),
    path("tenants/<uuid:uuid>/", tenants.tenant_anywhere, name="tenant-anywhere"),
    path("tenants/<slug:slug>/", tenants.tenant_detail, name="tenant"),
    path("tenants/<slug:slug>/limits", tenants.limits, name="tenant-limits"),
    path("containers/", tenants.container_list, name="containers"),
]
