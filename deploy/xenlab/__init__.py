"""A lab of real Xen hosts: QEMU machines that run Debian's Xen and a small dom0 with an agent."""
