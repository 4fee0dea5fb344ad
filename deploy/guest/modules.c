#define _GNU_SOURCE
#include "modules.h"

#include "files.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load(const char *file) {
    char path[256];
    snprintf(path, sizeof path, "/modules/%s", file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return failed("%s", path);
    long status = syscall(SYS_finit_module, fd, "", 0);
    int reason = errno;
    close(fd);
    errno = reason;
    return status && errno != EEXIST ? failed("%s", path) : 0;
}

int modules_load(const char *name) {
    char path[64], list[4096], *rest = list, *file;
    int status = 0;
    snprintf(path, sizeof path, "/modules/%s.list", name);
    if (read_file(path, list, sizeof list) < 0)
        return errno == ENOENT ? 0 : failed("%s", path);
    while ((file = strsep(&rest, "\n")))
        if (*file && load(file))
            status = -1;
    return status;
}
