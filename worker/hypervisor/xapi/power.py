"""Starting, stopping, moving: asynchronous calls that answer with their task. Pausing takes no time."""

from uuid import UUID

from worker.hypervisor.port import TaskHandle
from worker.hypervisor.xapi.calls import Calls


class Power:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def start_on(self, vm: UUID, host: UUID) -> TaskHandle:
        host_ref = self._calls.ref("host", host)
        return self._calls.start("VM.start_on", self._vm(vm), host_ref, False, False)

    def clean_shutdown(self, vm: UUID) -> TaskHandle:
        return self._calls.start("VM.clean_shutdown", self._vm(vm))

    def hard_shutdown(self, vm: UUID) -> TaskHandle:
        return self._calls.start("VM.hard_shutdown", self._vm(vm))

    def clean_reboot(self, vm: UUID) -> TaskHandle:
        return self._calls.start("VM.clean_reboot", self._vm(vm))

    def hard_reboot(self, vm: UUID) -> TaskHandle:
        return self._calls.start("VM.hard_reboot", self._vm(vm))

    def pool_migrate(self, vm: UUID, host: UUID) -> TaskHandle:
        host_ref = self._calls.ref("host", host)
        return self._calls.start("VM.pool_migrate", self._vm(vm), host_ref, {"live": "true"})

    def pause(self, vm: UUID) -> None:
        self._calls.on("VM", vm, lambda ref: self._calls.call("VM.pause", ref))

    def unpause(self, vm: UUID) -> None:
        self._calls.on("VM", vm, lambda ref: self._calls.call("VM.unpause", ref))

    def power_state_reset(self, vm: UUID) -> None:
        self._calls.on("VM", vm, lambda ref: self._calls.call("VM.power_state_reset", ref))

    def _vm(self, vm: UUID) -> str:
        return self._calls.ref("VM", vm)
