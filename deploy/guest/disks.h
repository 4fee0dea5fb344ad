/* The VM's disks, by their device number: 0 root, 1 config, 2 scratch, 3 and on volumes. */
#ifndef DISKS_H
#define DISKS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { DISK_ROOT = 0, DISK_CONFIG = 1, DISK_SCRATCH = 2, DISK_PATH = 32, DISK_WAIT_MS = 20000 };

/* The device of this number, under the name that Xen, virtio or an emulated controller gives it; -1 when the kernel
 * has none. */
int disk_find(int device, char path[DISK_PATH]);

/* The same once the kernel has it; -1 after DISK_WAIT_MS. */
int disk_wait(int device, char path[DISK_PATH]);

/* Has Xen told the kernel of any disk? It may be a while until that opens. */
bool disk_is_announced(void);

/* The root disk's partition of this name (GPT), once the kernel has read it; -1 after DISK_WAIT_MS. */
int disk_partition(const char *name, char path[DISK_PATH]);

/* "erofs", "squashfs" or NULL, by the bytes at the start of this device. */
const char *disk_golden_type(const char *path);

/* How much JSON the config disk begins with, into `to`; -1 when it cannot be read. */
long disk_read_config(const char *path, char *to, size_t room);

/* Are its first 64 KiB zeros? -1 when it cannot be read. */
int disk_is_blank(const char *path);

/* Begin to make an ext4 file system on this device if it is blank. What makes it, 0 when there is one already, or -1
 * after saying why. */
pid_t disk_begin_ext4(const char *path);

/* Wait until it is made; -1 after saying why it is not. */
int disk_end_ext4(pid_t making, const char *path);

/* Mount this device as ext4 at `target` with these options; -1 after saying why not. */
int disk_mount_ext4(const char *path, const char *target, bool read_only, const char *options);

#endif
