"""The driver: `port.Hypervisor` for one pool that speaks XAPI."""

from worker.hypervisor.port import CandidatesChanged, Hypervisor, PoolConnection
from worker.hypervisor.xapi.calls import Calls
from worker.hypervisor.xapi.disks import Disks
from worker.hypervisor.xapi.events import XapiWatcher
from worker.hypervisor.xapi.hosts import Hosts
from worker.hypervisor.xapi.looking import Looking
from worker.hypervisor.xapi.making import Making
from worker.hypervisor.xapi.networks import Networks
from worker.hypervisor.xapi.power import Power
from worker.hypervisor.xapi.reading import Reading
from worker.hypervisor.xapi.session import PoolSession, SessionStore
from worker.hypervisor.xapi.tasks import TaskCalls
from worker.hypervisor.xapi.transfers import Transfers


class XapiHypervisor:
    """See `port.Hypervisor` for what each call promises."""

    def __init__(self, session: PoolSession) -> None:
        self._session = session
        calls = Calls(session)
        tasks = TaskCalls(calls)
        reading = Reading(calls)
        making = Making(calls, reading, tasks)
        transfers = Transfers(calls, tasks)
        disks = Disks(calls, tasks, transfers)
        networks = Networks(calls)
        power = Power(calls)
        hosts = Hosts(calls, session.credentials)
        looking = Looking(calls)

        self.pool = reading.pool
        self.hosts = reading.hosts
        self.host = reading.host
        self.srs = reading.srs
        self.pbds = reading.pbds
        self.networks = reading.networks
        self.pifs = reading.pifs
        self.vms = reading.vms
        self.vm = reading.vm
        self.vdis = reading.vdis
        self.vdi = reading.vdi
        self.vbds = reading.vbds
        self.vifs = reading.vifs
        self.free_memory_bytes = reading.free_memory_bytes
        self.assert_can_boot_here = reading.assert_can_boot_here
        self.vms_preventing_evacuation = reading.vms_preventing_evacuation
        self.messages = reading.messages
        self.server_time = reading.server_time

        self.find_vm = making.find_vm
        self.ensure_vm = making.ensure_vm
        self.ensure_vbd = making.ensure_vbd
        self.ensure_vif = making.ensure_vif
        self.adopt_vm = making.adopt_vm
        self.set_vm_marker = making.set_vm_marker
        self.set_vm_data = making.set_vm_data
        self.set_vif_locking = making.set_vif_locking
        self.destroy_vm = making.destroy_vm

        self.find_vdi = disks.find_vdi
        self.ensure_vdi = disks.ensure_vdi
        self.ensure_vdis = disks.ensure_vdis
        self.clone_vdi = disks.clone_vdi
        self.import_vdi = transfers.import_vdi
        self.export_vdi = transfers.export_vdi
        self.resize_vdi = disks.resize_vdi
        self.adopt_vdi = disks.adopt_vdi
        self.scan_sr = disks.scan_sr
        self.set_vdi_marker = disks.set_vdi_marker
        self.destroy_vdi = disks.destroy_vdi
        self.clear_locks = disks.clear_locks

        self.ensure_network = networks.ensure_network
        self.ensure_vlan = networks.ensure_vlan
        self.destroy_network = networks.destroy_network

        self.start_on = power.start_on
        self.clean_shutdown = power.clean_shutdown
        self.hard_shutdown = power.hard_shutdown
        self.clean_reboot = power.clean_reboot
        self.hard_reboot = power.hard_reboot
        self.pool_migrate = power.pool_migrate
        self.pause = power.pause
        self.unpause = power.unpause
        self.power_state_reset = power.power_state_reset

        self.poll = tasks.poll
        self.wait = tasks.wait
        self.cancel = tasks.cancel
        self.forget = tasks.forget

        self.disable_host = hosts.disable_host
        self.enable_host = hosts.enable_host
        self.declare_dead = hosts.declare_dead
        self.host_answers = hosts.host_answers
        self.sync_database = hosts.sync_database
        self.designate_new_master = hosts.designate_new_master
        self.recover_slaves = hosts.recover_slaves
        self.emergency_transition_to_master = hosts.emergency_transition_to_master
        self.server_certificates = hosts.server_certificates

        self.consoles = looking.consoles
        self.open_console = looking.open_console
        self.metrics = looking.metrics
        self.destroy_messages = looking.destroy_messages

    def watcher(self) -> XapiWatcher:
        return XapiWatcher(self._session)

    def close(self) -> None:
        self._session.close()


def connect(
    connection: PoolConnection,
    *,
    candidates_changed: CandidatesChanged | None = None,
    store: SessionStore | None = None,
) -> XapiHypervisor:
    """A driver for that pool. Nothing is sent before the first call.

    Without a `store` the session is this process's own.
    """
    return XapiHypervisor(
        PoolSession(connection, candidates_changed=candidates_changed, store=store)
    )


def _conforms(hypervisor: XapiHypervisor) -> Hypervisor:
    """For the type checker: the driver is the port."""
    return hypervisor
