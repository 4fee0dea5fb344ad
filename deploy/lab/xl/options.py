"""The command line's part of a lab whose hosts run Xen."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from deploy.lab.lab import Config
from deploy.lab.xl.backend import XlBackend
from deploy.lab.xl.boot import Boot
from deploy.lab.xl.hardware import EmulatedHardware

MIB = 1024**2
CONTROL_DOMAIN = 384 * MIB
HYPERVISOR = 96 * MIB
"""What Xen keeps of an emulated host for itself, near what `xl info` says."""


def add_options(parser: argparse.ArgumentParser) -> None:
    boot = Boot()
    group = parser.add_argument_group("hosts that run Xen (docs/lab.md, Real Xen)")
    group.add_argument("--backend", choices=("memory", "xl"), default="memory")
    group.add_argument(
        "--xenlab", type=Path, help="folder of the emulated hosts: `deploy.xenlab --state`"
    )
    group.add_argument("--xenlab-name", default="lab", help="their name: `deploy.xenlab --name`")
    group.add_argument(
        "--boot-type", choices=("pvh", "pv"), default=boot.type, help="of guests' domains"
    )
    group.add_argument(
        "--boot-kernel", default=boot.kernel, help="in dom0, for VMs that name none of their own"
    )
    group.add_argument("--boot-initramfs", default=boot.ramdisk, help="in dom0, likewise")
    group.add_argument("--boot-args", default=boot.arguments, help="the kernel's command line")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    if options.backend == "memory":
        return
    if options.xenlab is None:
        parser.error("--backend xl needs --xenlab: the folder that deploy.xenlab was started with")
    if options.rate != 1:
        parser.error("--backend xl runs in real time: no --rate")


def use_xen(config: Config, options: argparse.Namespace) -> None:
    """Have the pool's hosts be emulated machines, and of their size. Raises XenlabError."""
    hardware = EmulatedHardware.of(options.xenlab, options.xenlab_name, config.hosts)
    boot = Boot(options.boot_type, options.boot_kernel, options.boot_initramfs, options.boot_args)
    config.memory_per_host = hardware.memory()
    config.control_domain_memory = CONTROL_DOMAIN
    config.hypervisor_memory = HYPERVISOR
    config.cpus_per_host = hardware.cpus
    config.backend = partial(XlBackend, hardware=hardware, boot=boot)
