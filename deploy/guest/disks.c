#define _GNU_SOURCE
#include "disks.h"

#include "files.h"
#include "log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONFIG_PIECE = 8192 };

static const char *const prefixes[] = {"xvd", "vd", "sd"};

/* The kernel makes a device's folder, then its node, and only then a device that opens. */
static bool opens(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

int disk_find(int device, char path[DISK_PATH]) {
    for (size_t i = 0; device >= 0 && device <= 25 && i < sizeof prefixes / sizeof *prefixes; i++) {
        snprintf(path, DISK_PATH, "/dev/%s%c", prefixes[i], 'a' + device);
        if (opens(path))
            return 0;
    }
    errno = ENODEV;
    return -1;
}

bool disk_is_announced(void) {
    bool found = false;
    DIR *all = opendir("/sys/bus/xen/devices");
    if (!all)
        return false;
    for (struct dirent *one; !found && (one = readdir(all));)
        found = !strncmp(one->d_name, "vbd-", strlen("vbd-"));
    closedir(all);
    return found;
}

int disk_wait(int device, char path[DISK_PATH]) {
    int64_t deadline = now_ms() + DISK_WAIT_MS;
    while (disk_find(device, path)) {
        if (now_ms() > deadline || device < 0 || device > 25) {
            errno = ENODEV;
            return -1;
        }
        sleep_ms(2);
    }
    return 0;
}

/* The partition of this name that the kernel has found on this disk by now. */
static int find_partition(const char *disk, const char *name, char path[DISK_PATH]) {
    char folder[64], line[300], uevent[1024], wanted[80];
    snprintf(wanted, sizeof wanted, "\nPARTNAME=%s\n", name);
    snprintf(folder, sizeof folder, "/sys/class/block/%s", disk + strlen("/dev/"));
    DIR *parts = opendir(folder);
    if (!parts)
        return -1;
    bool found = false;
    for (struct dirent *part; !found && (part = readdir(parts));) {
        snprintf(line, sizeof line, "%s/%.64s/uevent", folder, part->d_name);
        if (strncmp(part->d_name, disk + strlen("/dev/"), strlen(disk) - strlen("/dev/")) ||
            read_file(line, uevent, sizeof uevent) < 0 || !strstr(uevent, wanted))
            continue;
        snprintf(path, DISK_PATH, "/dev/%.20s", part->d_name);
        found = opens(path);
    }
    closedir(parts);
    errno = ENODEV;
    return found ? 0 : -1;
}

int disk_partition(const char *name, char path[DISK_PATH]) {
    char disk[DISK_PATH];
    if (disk_wait(DISK_ROOT, disk))
        return -1;
    /* A disk has its name before its partitions: a slow one's first sectors take seconds to come. */
    for (int64_t deadline = now_ms() + DISK_WAIT_MS; find_partition(disk, name, path); sleep_ms(2))
        if (now_ms() > deadline) {
            errno = ENODEV;
            return -1;
        }
    return 0;
}

const char *disk_golden_type(const char *path) {
    unsigned char start[1028] = {0};
    static const unsigned char erofs[] = {0xE2, 0xE1, 0xF5, 0xE0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t size = read(fd, start, sizeof start);
    close(fd);
    if (size != sizeof start)
        return NULL;
    return !memcmp(start + 1024, erofs, 4) ? "erofs" : !memcmp(start, "hsqs", 4) ? "squashfs" : NULL;
}

/* The disk has room for the longest spec, and most are short: it is read until its text ends, without reading ahead. */
long disk_read_config(const char *path, char *to, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    size_t size = 0;
    ssize_t some = 1;
    to[0] = 0;
    while (some > 0 && size + 1 < room && strlen(to) == size) {
        size_t wanted = room - 1 - size < CONFIG_PIECE ? room - 1 - size : CONFIG_PIECE;
        some = read(fd, to + size, wanted);
        size += some > 0 ? (size_t)some : 0;
        to[size] = 0;
    }
    close(fd);
    return some < 0 ? -1 : (long)strlen(to);
}

int disk_is_blank(const char *path) {
    static char start[64 * 1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = read(fd, start, sizeof start);
    close(fd);
    if (size != sizeof start)
        return -1;
    for (size_t i = 0; i < sizeof start; i++)
        if (start[i])
            return 0;
    return 1;
}

static pid_t begin_ext4(const char *path) {
    char *argv[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-I", "256", "-O",
                    "^resize_inode", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                    (char *)(uintptr_t)path, NULL};
    char *env[] = {"MKE2FS_CONFIG=/etc/mke2fs.conf", NULL};
    pid_t child = fork();
    if (!child) {
        /* On a terminal it looks for what may be there already, in sixty places, to ask whether that shall go. */
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(nothing, 1) < 0)
            _exit(126);
        execve("/sbin/mke2fs", argv, env);
        failed("/sbin/mke2fs");
        _exit(127);
    }
    return child < 0 ? failed("mke2fs") : child;
}

pid_t disk_begin_ext4(const char *path) {
    int blank = disk_is_blank(path);
    return blank < 0 ? failed("%s", path) : blank ? begin_ext4(path) : 0;
}

int disk_end_ext4(pid_t making, const char *path) {
    int status;
    if (making <= 0)
        return making;
    if (waitpid(making, &status, 0) < 0)
        return failed("mke2fs");
    if (status) {
        say("mke2fs of %s ended with status %d", path, status);
        return -1;
    }
    return 0;
}

int disk_mount_ext4(const char *path, const char *target, bool read_only, const char *options) {
    unsigned long flags = MS_NODEV | MS_NOATIME | (read_only ? MS_RDONLY : 0);
    return mount(path, target, "ext4", flags, options) ? failed("mounting %s as ext4", path) : 0;
}
