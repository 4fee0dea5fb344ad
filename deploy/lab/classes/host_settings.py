"""Settings of hosts that are more than a write, and what their hosts refuse (xapi_host.ml)."""

from __future__ import annotations

import base64
import binascii
import string
from typing import Any

from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message
from deploy.lab.errors import XapiError
from deploy.lab.forward import forward
from deploy.lab.generic import add_to_map
from deploy.lab.schema import NULL
from deploy.lab.wire import EPOCH

LONGEST_HOSTNAME = 255
_HOSTNAME = frozenset(string.ascii_letters + string.digits + "-.")
LONGEST_SSH_TIMEOUT = 2 * 24 * 3600

# --- names and storage


@message("host.set_hostname_live")
async def set_hostname_live(call: Call, host: Row, hostname: str) -> None:
    """Raises HOST_NAME_INVALID [reason]."""
    await forward(call, host.ref)
    if not hostname:
        raise XapiError("HOST_NAME_INVALID", "hostname empty")
    if len(hostname) > LONGEST_HOSTNAME:
        raise XapiError("HOST_NAME_INVALID", "hostname is too long")
    if hostname[0] == "-" or hostname[-1] == "-" or not set(hostname) <= _HOSTNAME:
        raise XapiError("HOST_NAME_INVALID", "hostname contains invalid characters")
    call.db.update(host, hostname=hostname)


@message("host.set_multipathing")
def set_multipathing(call: Call, host: Row, value: bool) -> None:
    """Older clients look for it in other_config."""
    other_config = {**host.other_config, "multipathing": str(value).lower()}
    call.db.update(host, multipathing=value, other_config=other_config)


@message("host.set_iscsi_iqn")
def set_iscsi_iqn(call: Call, host: Row, value: str) -> None:
    if not value:
        raise XapiError("INVALID_VALUE", "value", value)
    call.db.update(host, iscsi_iqn=value, other_config={**host.other_config, "iscsi_iqn": value})


WATCHED = 0.2
"""Seconds until the daemon notices that other_config says something about storage."""


@message("host.set_other_config")
def set_other_config(call: Call, host: Row, value: dict[str, str]) -> None:
    call.db.update(host, other_config=value)
    call.lab.spawn(_follow_other_config(call, host))


@message("host.add_to_other_config")
def add_to_other_config(call: Call, host: Row, key: str, value: str) -> None:
    add_to_map(call, host, "other_config", key, value)
    call.lab.spawn(_follow_other_config(call, host))


async def _follow_other_config(call: Call, host: Row) -> None:
    """Older clients set the initiator's name and multipathing there."""
    await call.lab.clock.sleep(WATCHED)
    iqn = host.other_config.get("iscsi_iqn")
    if iqn:
        call.db.update(host, iscsi_iqn=iqn)
    multipathing = host.other_config.get("multipathing")
    if multipathing in ("true", "false"):
        call.db.update(host, multipathing=multipathing == "true")


@message("host.enable_local_storage_caching")
async def enable_local_storage_caching(call: Call, host: Row, sr: str) -> None:
    """Raises HOST_NOT_DISABLED, HOST_IN_USE, SR_OPERATION_NOT_SUPPORTED, HOST_CANNOT_SEE_SR."""
    await forward(call, host.ref)
    _check_out_of_service(call, host)
    storage = call.db.get("SR", sr)
    pbds = call.db.rows("PBD", storage.PBDs)
    if storage.shared or len(pbds) != 1 or storage.type != "ext":
        raise XapiError("SR_OPERATION_NOT_SUPPORTED")
    if pbds[0].host != host.ref:
        raise XapiError("HOST_CANNOT_SEE_SR", host.ref, sr)
    _forget_cache(call, host)
    call.db.update(host, local_cache_sr=sr)
    call.db.update(storage, local_cache_enabled=True)


@message("host.disable_local_storage_caching")
async def disable_local_storage_caching(call: Call, host: Row) -> None:
    await forward(call, host.ref)
    _check_out_of_service(call, host)
    _forget_cache(call, host)


def _forget_cache(call: Call, host: Row) -> None:
    old = call.db.find("SR", host.local_cache_sr)
    call.db.update(host, local_cache_sr=NULL)
    if old is not None:
        call.db.update(old, local_cache_enabled=False)


def _check_out_of_service(call: Call, host: Row) -> None:
    if host.enabled:
        raise XapiError("HOST_NOT_DISABLED")
    for vm in call.db.rows("VM", host.resident_VMs):
        if vm.power_state == "Running" and not vm.is_control_domain:
            raise XapiError("HOST_IN_USE", host.ref, "vm", vm.ref)


# --- management


@message("host.management_reconfigure")
async def management_reconfigure(call: Call, pif: str) -> None:
    """Raises HA_IS_ENABLED, CANNOT_PLUG_BOND_SLAVE, PIF_HAS_NO_NETWORK_CONFIGURATION [pif].

    The lab's hosts stay where they listen: only the flags of the interfaces move.
    """
    wanted = call.db.get("PIF", pif)
    host = (await forward(call, wanted.host)).host
    if call.lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    if wanted.managed and wanted.bond_slave_of != NULL:
        raise XapiError("CANNOT_PLUG_BOND_SLAVE", pif)
    if wanted.managed and wanted.ip_configuration_mode == "None":
        raise XapiError("PIF_HAS_NO_NETWORK_CONFIGURATION", pif)
    for other in call.db.rows("PIF", host.PIFs):
        call.db.update(other, management=other.ref == pif)
    call.db.update(wanted, currently_attached=True)


@message("host.local_management_reconfigure")
def local_management_reconfigure(call: Call, interface: str) -> None:
    raise XapiError("NOT_IN_EMERGENCY_MODE")


@message("host.set_ssl_legacy")
def set_ssl_legacy(call: Call, host: Row, value: bool) -> None:
    if value:
        reason = "Legacy SSL support has been removed"
        raise XapiError("VALUE_NOT_SUPPORTED", "value", "true", reason)


@message("host.set_uefi_certificates")
def set_uefi_certificates(call: Call, host: Row, value: str) -> None:
    text = "To set UEFI certificates use: `Pool.set_custom_uefi_certificates`"
    raise XapiError("OPERATION_NOT_ALLOWED", text)


@message("host.license_add")
def license_add(call: Call, host: Row, contents: str) -> None:
    """There is no licence to add. Raises LICENSE_PROCESSING_ERROR for what is not base64."""
    try:
        base64.b64decode(contents, validate=True)
    except (binascii.Error, ValueError):
        raise XapiError("LICENSE_PROCESSING_ERROR") from None


@message("host.license_remove")
def license_remove(call: Call, host: Row) -> None:
    """The edition has every feature and no licence behind it."""


@message("host.apply_edition")
def apply_edition(call: Call, host: Row, edition: str, force: bool) -> None:
    if edition == host.edition:
        return
    if call.lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    raise XapiError("INVALID_EDITION", edition)


@message("host.enable_external_auth")
def enable_external_auth(
    call: Call, host: Row, config: dict[str, str], service_name: str, auth_type: str
) -> None:
    """No kind of directory is known here."""
    raise XapiError("AUTH_UNKNOWN_TYPE", auth_type)


@message("host.disable_external_auth")
def disable_external_auth(call: Call, host: Row, config: dict[str, str], force: bool) -> None:
    """Disabling what is disabled is no error."""


# --- hardware


@message("host.get_sched_gran")
async def get_sched_gran(call: Call, host: Row) -> str:
    await forward(call, host.ref)
    return "cpu"


@message("host.set_sched_gran")
async def set_sched_gran(call: Call, host: Row, value: str) -> None:
    await forward(call, host.ref)
    raise XapiError("OPERATION_NOT_ALLOWED", "Disabled by xapi.conf")


@message("host.set_numa_affinity_policy", "host.set_https_only")
def set_field(call: Call, host: Row, value: Any) -> None:
    call.db.update(host, **{call.message.name.removeprefix("set_"): value})


_DISPLAY = {
    "enable": {"disable_on_reboot": "enabled", "disabled": "enable_on_reboot"},
    "disable": {"enabled": "disable_on_reboot", "enable_on_reboot": "disabled"},
}


@message("host.enable_display", "host.disable_display")
async def switch_display(call: Call, host: Row) -> str:
    """Takes effect at the next start of the host; answers what is displayed until then."""
    await forward(call, host.ref)
    action = call.message.name.removesuffix("_display")
    display: str = _DISPLAY[action].get(host.display, host.display)
    call.db.update(host, display=display)
    return display


# --- remote shells


@message("host.enable_ssh")
async def enable_ssh(call: Call, host: Row) -> None:
    await forward(call, host.ref)
    call.db.update(host, ssh_enabled=True)


@message("host.disable_ssh")
async def disable_ssh(call: Call, host: Row) -> None:
    await forward(call, host.ref)
    call.db.update(host, ssh_enabled=False, ssh_expiry=call.lab.clock.date())


@message("host.set_ssh_enabled_timeout")
async def set_ssh_enabled_timeout(call: Call, host: Row, value: int) -> None:
    await forward(call, host.ref)
    if not 0 <= value <= LONGEST_SSH_TIMEOUT:
        raise XapiError("INVALID_VALUE", "ssh_enabled_timeout", str(value))
    changes: dict[str, Any] = {"ssh_enabled_timeout": value}
    if host.ssh_enabled and value == 0:
        changes["ssh_expiry"] = EPOCH
    call.db.update(host, **changes)


@message("host.set_console_idle_timeout")
async def set_console_idle_timeout(call: Call, host: Row, value: int) -> None:
    await forward(call, host.ref)
    if value < 0:
        raise XapiError("INVALID_VALUE", "console_timeout", str(value))
    call.db.update(host, console_idle_timeout=value)


# --- what leaves no trace, and what the daemon does not serve either


@message("host.sync_data", "host.syslog_reconfigure", "host.refresh_pack_info")
@message("host.apply_guest_agent_config")
async def do_nothing_visible(call: Call, host: Row) -> None:
    await forward(call, host.ref)


@message("host.backup_rrds", "host.send_debug_keys")
async def do_nothing_visible_with(call: Call, host: Row, _: Any) -> None:
    await forward(call, host.ref)


@message("host.dmesg")
async def dmesg(call: Call, host: Row) -> str:
    await forward(call, host.ref)
    return ""


@message("host.dmesg_clear", "host.get_log")
async def refuse(call: Call, host: Row) -> str:
    await forward(call, host.ref)
    raise XapiError("NOT_IMPLEMENTED", call.message.name)


@message("host.ha_xapi_healthcheck")
def ha_xapi_healthcheck(call: Call) -> bool:
    return True


@message("host.list_methods")
def list_methods(call: Call) -> list[str]:
    raise XapiError("NOT_IMPLEMENTED", "list_method")
