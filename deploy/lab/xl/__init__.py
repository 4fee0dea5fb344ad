"""Hosts that run Xen: the lab's other backend (docs/lab.md, "Real Xen").

What the pool's daemons decide is carried out by an agent in each host's dom0; disks are served to
dom0 over NBD. The agent's protocol: docs/xenlab.md.
"""
