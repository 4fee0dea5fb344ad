/* What the container sees as /: its golden root under a writable overlay, volumes, /dev, /sys, and the files that
 * its place in the network needs. Set up by init in its own mount namespace, entered by the container's process. */
#ifndef ROOT_H
#define ROOT_H

#include "spec.h"

/* Make what needs neither an image nor a spec, once: /dev, /sys, and room for files. -1 after saying why. */
int root_prepare(void);

/* Mount the golden root, read-only: needs no spec. A descriptor of it, or -1 after saying why. */
int root_mount_golden(void);

/* Begin to make a file system on the scratch disk, if that is blank: it is made while others work, and waited for where
 * it is mounted. Once; -1 after saying why. */
int root_begin_scratch(void);

/* Mount the scratch disk; once. -1 after saying why. */
int root_mount_scratch(void);

/* Mount the overlay on scratch, which need not be mounted yet, and open the container's root: a descriptor, or -1 after saying why. */
int root_assemble(void);

/* Volumes, what was prepared, and /etc/{hostname,hosts,resolv.conf} over the image's own. */
int root_furnish(int root, const struct spec *spec);

/* In the container's first process, alone in new PID and mount namespaces: /proc, what of it is hidden or
 * read-only, and then its root is /. `terminal`: the path of its pty to be /dev/console, or NULL. */
int root_enter(const char *terminal);

/* Let go of all disks after the last process has gone. */
void root_leave(int root);

#endif
