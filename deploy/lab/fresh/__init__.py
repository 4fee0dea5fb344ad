"""A fresh pool: what is there before anyone has made a VM (recorded: records_fresh_pool)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from deploy.lab.database import Row
from deploy.lab.fresh.facts import POOL_FEATURES, RESTRICTIONS
from deploy.lab.fresh.hosts import make_hardware, make_host
from deploy.lab.fresh.networks import make_networks, make_pifs
from deploy.lab.fresh.roles import make_roles
from deploy.lab.fresh.storage import make_storage, make_storage_plugins
from deploy.lab.fresh.templates import FEW, TEMPLATES, make_template
from deploy.lab.operations import ALLOWED, refresh

if TYPE_CHECKING:
    from deploy.lab.lab import Lab


def build_pool(lab: Lab) -> None:
    """Fill the empty database. `Config.preset` says with how much.

    `recorded`: everything the recorded pool had. `small`: what a client needs to run VMs; without
    the rows of hardware inventory and most templates, so that large pools are built at once.
    """
    everything = lab.config.preset == "recorded"
    with lab.quietly():
        pool = _make_pool(lab)
        for template in TEMPLATES if everything else FEW:
            make_template(lab, template)
        networks = make_networks(lab)
        hosts = [make_host(lab, number) for number in range(1, lab.config.hosts + 1)]
        lab.coordinator = lab.machine(hosts[0].ref)
        for number, host in enumerate(hosts, 1):
            make_pifs(lab, host, number, networks)
        make_storage_plugins(lab)
        shared = make_storage(lab, hosts)
        lab.db.update(
            pool,
            master=hosts[0].ref,
            default_SR=shared.ref,
            suspend_image_SR=shared.ref,
            crash_dump_SR=shared.ref,
        )
        if everything:
            make_roles(lab)
            for host in hosts:
                make_hardware(lab, host)
        lab.db.create("user", short_name="root", fullname="superuser")
        _allow(lab)


def _make_pool(lab: Lab) -> Row:
    hosts = lab.config.hosts
    telemetry = lab.db.create("secret", value=str(uuid.uuid4()))
    cpus = {"vendor": "GenuineIntel", "socket_count": str(hosts)}
    cpus["cpu_count"] = str(lab.config.cpus_per_host * hosts)
    return lab.db.create(
        "pool",
        name_label=lab.config.pool_name,
        other_config={"memory-ratio-hvm": "0.25", "memory-ratio-pv": "0.25"},
        restrictions=RESTRICTIONS,
        ha_cluster_stack="xhad",
        cpu_info=cpus | POOL_FEATURES,
        coordinator_bias=True,
        telemetry_uuid=telemetry.ref,
        telemetry_next_collection=lab.clock.date(),
    )


def _allow(lab: Lab) -> None:
    for cls in ALLOWED:
        for row in lab.db.all(cls):
            refresh(lab, row)
