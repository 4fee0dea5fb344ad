#define _GNU_SOURCE
#include "uevents.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KERNEL_GROUP = 1 };

int uevents_open(void) {
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&kernel, sizeof kernel)) {
        int reason = errno;
        close(fd);
        errno = reason;
        return -1;
    }
    return fd;
}

void uevents_drain(int fd) {
    char event[4096];
    /* ENOBUFS says that some were lost: whoever asks looks anew all the same. */
    while (recv(fd, event, sizeof event, 0) > 0 || errno == EINTR || errno == ENOBUFS)
        errno = 0;
}
