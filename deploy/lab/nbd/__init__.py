"""Network block devices: the lab's disks, served to real clients (NBD, fixed newstyle).

The protocol: https://github.com/NetworkBlockDevice/nbd, doc/proto.md.
"""
