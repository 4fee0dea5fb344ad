"""Settings of the pool that are more than a write, and what it refuses (xapi_pool.ml)."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from deploy.lab.classes.wiring import attach_network, check_address, pif_on
from deploy.lab.database import Row
from deploy.lab.dispatch import Call, message, within
from deploy.lab.errors import XapiError
from deploy.lab.generic import add_to_map, remove_from_map
from deploy.lab.schema import NULL

THREADS = range(1, 101)
MOST_WEEKLY_DAY = 6
LATEST_TELEMETRY = {"daily": 2, "weekly": 14, "monthly": 62}

# --- guests


def _is_bool(text: str) -> bool:
    return text in ("true", "false")


def _is_web_address(text: str) -> bool:
    return urlsplit(text).scheme in ("http", "https")


GUEST_AGENT_CONFIG = {"auto_update_enabled": _is_bool, "auto_update_url": _is_web_address}


@message("pool.add_to_guest_agent_config")
def add_to_guest_agent_config(call: Call, pool: Row, key: str, value: str) -> None:
    is_valid = GUEST_AGENT_CONFIG.get(key)
    if is_valid is None or not is_valid(value):
        raise XapiError("INVALID_VALUE", "guest_agent_config", f"{key} = {value}")
    add_to_map(call, pool, "guest_agent_config", key, value)


@message("pool.remove_from_guest_agent_config")
def remove_from_guest_agent_config(call: Call, pool: Row, key: str) -> None:
    remove_from_map(call, pool, "guest_agent_config", key)


@message("pool.set_uefi_certificates")
def set_uefi_certificates(call: Call, pool: Row, value: str) -> None:
    text = "Setting UEFI certificates is deprecated, please use `set_custom_uefi_certificates`"
    raise XapiError("OPERATION_NOT_ALLOWED", text)


@message("pool.get_guest_secureboot_readiness")
def get_guest_secureboot_readiness(call: Call, pool: Row) -> str:
    return "not_ready"


# --- networks


@message("pool.set_vswitch_controller")
def set_vswitch_controller(call: Call, address: str) -> None:
    if address and address != call.lab.pool.vswitch_controller:
        check_address(4, "address", address)
    call.db.update(call.lab.pool, vswitch_controller=address)


@message("pool.set_igmp_snooping_enabled")
def set_igmp_snooping_enabled(call: Call, pool: Row, value: bool) -> None:
    """Every network that stands on its own interface comes up anew on every host."""
    call.db.update(pool, igmp_snooping_enabled=value)
    for host in call.db.all("host"):
        for pif in call.db.rows("PIF", host.PIFs):
            if pif.VLAN == -1 and pif.bond_slave_of == NULL and pif.managed:
                attach_network(call.lab, call.db.get("network", pif.network), host, again=True)


@message("pool.management_reconfigure")
async def management_reconfigure(call: Call, network: str) -> None:
    """Raises HA_IS_ENABLED, PIF_NOT_PRESENT [host, network] and what a host refuses it with."""
    if call.lab.pool.ha_enabled:
        raise XapiError("HA_IS_ENABLED")
    target = call.db.get("network", network)
    pifs = []
    for host in call.db.all("host"):
        pif = pif_on(call.lab, target, host)
        if pif is None:
            raise XapiError("PIF_NOT_PRESENT", host.ref, network)
        pifs.append(pif)
    for pif in pifs:
        await within(call, "host.management_reconfigure", pif.ref)


# --- who logs in


@message("pool.set_local_auth_max_threads", "pool.set_ext_auth_max_threads")
def set_threads(call: Call, pool: Row, value: int) -> None:
    name = call.message.name.removeprefix("set_")
    if value not in THREADS:
        raise XapiError("INVALID_VALUE", name, str(value))
    call.db.update(pool, **{name: value})


@message("pool.set_ext_auth_cache_size")
def set_ext_auth_cache_size(call: Call, pool: Row, value: int) -> None:
    if value < 0:
        raise XapiError("INVALID_VALUE", "size", str(value))
    call.db.update(pool, ext_auth_cache_size=value)


@message("pool.set_ext_auth_cache_expiry")
def set_ext_auth_cache_expiry(call: Call, pool: Row, value: int) -> None:
    if value <= 0:
        raise XapiError("INVALID_VALUE", "expiry", str(value))
    call.db.update(pool, ext_auth_cache_expiry=value)


@message("pool.enable_external_auth")
def enable_external_auth(
    call: Call, pool: Row, config: dict[str, str], service_name: str, auth_type: str
) -> None:
    """No kind of directory is known here."""
    raise XapiError("AUTH_UNKNOWN_TYPE", auth_type)


@message("pool.disable_external_auth")
def disable_external_auth(call: Call, pool: Row, config: dict[str, str]) -> None:
    """Disabling what is disabled is no error."""


@message("pool.enable_client_certificate_auth")
def enable_client_certificate_auth(call: Call, pool: Row, name: str) -> None:
    call.db.update(pool, client_certificate_auth_enabled=True, client_certificate_auth_name=name)


@message("pool.disable_client_certificate_auth")
def disable_client_certificate_auth(call: Call, pool: Row) -> None:
    call.db.update(pool, client_certificate_auth_enabled=False, client_certificate_auth_name="")


# --- updates and telemetry


@message("pool.configure_update_sync")
def configure_update_sync(call: Call, pool: Row, frequency: str, day: int) -> None:
    """The day counts for weekly updates only."""
    if frequency == "weekly" and not 0 <= day <= MOST_WEEKLY_DAY:
        raise XapiError("INVALID_UPDATE_SYNC_DAY", str(day))
    day = day if frequency == "weekly" else 0
    call.db.update(pool, update_sync_frequency=frequency, update_sync_day=day)


@message("pool.set_update_sync_enabled")
def set_update_sync_enabled(call: Call, pool: Row, value: bool) -> None:
    if value and not pool.repositories:
        raise XapiError("NO_REPOSITORIES_CONFIGURED")
    call.db.update(pool, update_sync_enabled=value)


@message("pool.check_update_readiness")
def check_update_readiness(call: Call, pool: Row, requires_reboot: bool) -> list[list[str]]:
    """What stands in the way, an error each."""
    found = [["HA_IS_ENABLED"]] if pool.ha_enabled else []
    for host in call.db.all("host"):
        metrics = call.db.find("host_metrics", host.metrics)
        if metrics is None or not metrics.live:
            found.append(["HOST_OFFLINE", host.ref])
    return found


@message("pool.configure_repository_proxy")
def configure_repository_proxy(
    call: Call, pool: Row, url: str, username: str, password: str
) -> None:
    """Raises INVALID_REPOSITORY_PROXY_URL [url], INVALID_REPOSITORY_PROXY_CREDENTIAL."""
    if not _is_web_address(url):
        raise XapiError("INVALID_REPOSITORY_PROXY_URL", url)
    if bool(username) != bool(password) or "\n" in username + password:
        raise XapiError("INVALID_REPOSITORY_PROXY_CREDENTIAL")
    secret = call.db.create("secret", value=password).ref if password else NULL
    _set_proxy(call, pool, url, username, secret)


@message("pool.disable_repository_proxy")
def disable_repository_proxy(call: Call, pool: Row) -> None:
    _set_proxy(call, pool, "", "", NULL)


def _set_proxy(call: Call, pool: Row, url: str, username: str, secret: str) -> None:
    old = call.db.find("secret", pool.repository_proxy_password)
    call.db.update(
        pool,
        repository_proxy_url=url,
        repository_proxy_username=username,
        repository_proxy_password=secret,
    )
    if old is not None:
        call.db.delete(old)


@message("pool.set_telemetry_next_collection")
def set_telemetry_next_collection(call: Call, pool: Row, value: datetime) -> None:
    """Raises TELEMETRY_NEXT_COLLECTION_TOO_LATE [time]."""
    latest = call.lab.clock.date() + timedelta(days=LATEST_TELEMETRY[pool.telemetry_frequency])
    if value > latest:
        text = value.strftime("%Y%m%dT%H:%M:%SZ")
        raise XapiError("TELEMETRY_NEXT_COLLECTION_TOO_LATE", text)
    call.db.update(pool, telemetry_next_collection=value)


@message("pool.reset_telemetry_uuid")
def reset_telemetry_uuid(call: Call, pool: Row) -> None:
    old = call.db.find("secret", pool.telemetry_uuid)
    fresh = call.db.create("secret", value=str(uuid.uuid4()))
    call.db.update(pool, telemetry_uuid=fresh.ref)
    if old is not None:
        call.db.delete(old)


# --- storage


@message("pool.enable_local_storage_caching")
async def enable_local_storage_caching(call: Call, pool: Row) -> None:
    """On a local storage of each host. Raises HOSTS_FAILED_TO_ENABLE_CACHING [hosts…]."""
    failed = [host.ref for host in call.db.all("host") if not await _cache_on(call, host)]
    if failed:
        raise XapiError("HOSTS_FAILED_TO_ENABLE_CACHING", *failed)


async def _cache_on(call: Call, host: Row) -> bool:
    for pbd in call.db.rows("PBD", host.PBDs):
        try:
            await within(call, "host.enable_local_storage_caching", host.ref, pbd.SR)
        except XapiError:
            continue
        return True
    return False


@message("pool.disable_local_storage_caching")
async def disable_local_storage_caching(call: Call, pool: Row) -> None:
    failed = []
    for host in call.db.all("host"):
        try:
            await within(call, "host.disable_local_storage_caching", host.ref)
        except XapiError:
            failed.append(host.ref)
    if failed:
        raise XapiError("HOSTS_FAILED_TO_DISABLE_CACHING", *failed)


# --- on every host, and nowhere


@message("pool.set_https_only", "pool.set_ssh_auto_mode")
def set_on_hosts(call: Call, pool: Row, value: bool) -> None:
    for host in call.db.all("host"):
        call.db.update(host, **{call.message.name.removeprefix("set_"): value})


@message("pool.enable_ssh", "pool.disable_ssh")
async def switch_ssh(call: Call, pool: Row) -> None:
    for host in call.db.all("host"):
        await within(call, f"host.{call.message.name}", host.ref)


@message("pool.set_ssh_enabled_timeout", "pool.set_console_idle_timeout")
async def set_timeout(call: Call, pool: Row, value: int) -> None:
    for host in call.db.all("host"):
        await within(call, f"host.{call.message.name}", host.ref, value)


@message("pool.set_ext_auth_cache_enabled", "pool.set_custom_uefi_certificates")
def set_field(call: Call, pool: Row, value: Any) -> None:
    call.db.update(pool, **{call.message.name.removeprefix("set_"): value})


@message("pool.disable_ssl_legacy", "pool.certificate_sync")
@message("pool.audit_log_append", "pool.rotate_secret")
@message("pool.detect_nonhomogeneous_external_auth")
def accept(call: Call, *_: Any) -> None:
    """Nothing of it shows in the lab."""


@message("pool.test_archive_target")
def removed(call: Call, *_: Any) -> None:
    raise XapiError("MESSAGE_REMOVED")


@message("pool.certificate_list", "pool.crl_list")
def no_certificates(call: Call) -> list[str]:
    return []


@message("pool.deconfigure_wlb")
def deconfigure_wlb(call: Call) -> None:
    call.db.update(call.lab.pool, wlb_enabled=False, wlb_url="", wlb_username="")


@message("pool.retrieve_wlb_recommendations", "pool.retrieve_wlb_configuration")
@message("pool.send_wlb_configuration")
def without_wlb(call: Call, *_: Any) -> None:
    raise XapiError("WLB_NOT_INITIALIZED")
