"""The command line of a host: emulated (TCG), since the machine below need not offer virtualisation.

Why these processor flags, seen with QEMU 7.2 and Xen 4.17: with SMAP, a PV dom0 dies at its first return
from ring 3; RDTSCP's intercept looks like RDTSC's to Xen, which then ends PVH guests; XSAVE's sizes
are found inconsistent by PVH guests; with ERMS all copy and clear pages by `rep movsb` and `rep stosb`, which
are done a byte at a time here.
"""

from __future__ import annotations

from deploy.xenlab.image import Image
from deploy.xenlab.plan import GATEWAY, HostPlan, LabPlan

PROGRAM = "qemu-system-x86_64"
PROCESSOR = "max,-smap,-rdtscp,-xsave,-erms"
LINUX = (
    "console=hvc0 quiet mitigations=off selinux=0 apparmor=0 audit=0 panic=1"
    # An emulated TSC drifts from Xen's time by a thousandth: Linux would turn away from it after a minute, and
    # from then on ask the kernel, 70 µs each time, where programs read a register.
    " tsc=reliable"
)
"""dom0's kernel arguments, but for those of one host. Other security modules stay as Debian has them: what containers are
compared with runs under them too."""


def hypervisor(plan: LabPlan) -> str:
    """Xen's arguments."""
    memory = f"{plan.dom0_memory_mib}M"
    return (
        f"com1=115200,8n1 console=com1 dom0_mem={memory},max:{memory} dom0_max_vcpus=1"
        " loglvl=warning guest_loglvl=none spec-ctrl=no xpti=no noreboot=1"
        # Scrubbing would make the host touch, and this machine provide, all its memory.
        " bootscrub=0"
        # TCG forgets where its translations are whenever a processor turns to another domain: with the usual 1 ms,
        # three guests that boot side by side take twice as long.
        " sched_ratelimit_us=10000"
    )


def command(plan: LabPlan, host: HostPlan, *, incoming: bool) -> list[str]:
    """QEMU for a host; `incoming` waits for a saved state instead of booting."""
    image = Image(plan.image)
    linux = (
        f"{LINUX} xenlab.name={host.name} xenlab.address={host.address} xenlab.gateway={GATEWAY}"
    )
    return [
        *(PROGRAM, "-name", f"{plan.name}/{host.name}"),
        *("-M", "pc,vmport=off", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", PROCESSOR),
        *("-smp", str(plan.cpus), "-m", str(plan.memory_mib)),
        *("-nodefaults", "-vga", "none", "-display", "none", "-no-user-config"),
        *("-kernel", str(image.xen), "-append", hypervisor(plan)),
        # Multiboot modules: "file arguments,file arguments".
        *("-initrd", f"{image.kernel} {linux},{image.initramfs}"),
        "-drive",
        f"if=none,id=d0,file={host.overlay},format=qcow2,cache=unsafe",
        *("-device", "virtio-blk-pci,drive=d0"),
        *("-netdev", f"tap,id=n0,ifname={host.tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=n0,mac={host.mac}"),
        *("-object", "rng-random,id=r0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r0"),
        *("-serial", f"file:{host.serial_log}"),
        *("-qmp", f"unix:{host.control_socket},server=on,wait=off"),
        *("-pidfile", str(host.pid_file), "-daemonize"),
        *(("-incoming", "defer") if incoming else ()),
    ]
