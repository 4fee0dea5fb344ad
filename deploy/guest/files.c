#define _GNU_SOURCE
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(int ms) {
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static ssize_t read_all(int fd, char *to, size_t room) {
    size_t have = 0;
    ssize_t some;
    while (have < room - 1 && (some = read(fd, to + have, room - 1 - have)) != 0) {
        if (some < 0 && errno == EINTR)
            continue;
        if (some < 0)
            return -1;
        have += (size_t)some;
    }
    to[have] = 0;
    return (ssize_t)have;
}

ssize_t read_file(const char *path, char *to, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = read_all(fd, to, room);
    close(fd);
    return size;
}

int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    size_t length = strlen(text);
    ssize_t written = write(fd, text, length);
    close(fd);
    return written == (ssize_t)length ? 0 : -1;
}

static int resolve(int root, const char *path, int flags, unsigned mode) {
    struct open_how how = {
        .flags = (unsigned long long)(unsigned)(flags | O_CLOEXEC),
        .mode = mode,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

int open_inside(int root, const char *path, int flags) { return resolve(root, path, flags, 0); }

int make_inside(int root, const char *path) {
    char so_far[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof so_far) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int at = resolve(root, "/", O_PATH | O_DIRECTORY, 0);
    for (size_t i = 0; at >= 0 && i < length;) {
        size_t start = i + strspn(path + i, "/"), end = start + strcspn(path + start, "/");
        if (start == end)
            break;
        memcpy(so_far, path, end);
        so_far[end] = 0;
        int next = resolve(root, so_far, O_PATH | O_DIRECTORY, 0);
        if (next < 0 && errno == ENOENT && !mkdirat(at, so_far + start, 0755))
            next = resolve(root, so_far, O_PATH | O_DIRECTORY, 0);
        int reason = errno;
        close(at);
        errno = reason;
        at = next;
        i = end;
    }
    return at;
}

int touch_inside(int root, const char *path) {
    int fd = resolve(root, path, O_PATH, 0);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) >= sizeof folder) {
        errno = EINVAL;
        return -1;
    }
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = 0;
    int at = make_inside(root, folder);
    if (at < 0)
        return -1;
    close(at);
    /* A link that leads nowhere gets its target, inside. */
    fd = resolve(root, path, O_WRONLY | O_CREAT | O_NONBLOCK, 0644);
    if (fd < 0)
        return -1;
    close(fd);
    return resolve(root, path, O_PATH, 0);
}

ssize_t read_inside(int root, const char *path, char *to, size_t room) {
    struct stat status;
    /* Without waiting: it may be a pipe that nobody writes to. */
    int fd = resolve(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return -1;
    ssize_t size = -1;
    if (!fstat(fd, &status) && S_ISREG(status.st_mode))
        size = read_all(fd, to, room);
    else
        errno = EINVAL;
    close(fd);
    return size;
}

int fetch_inside(int root, const char *path) {
    enum { PIECE = 128 << 10 }; /* more at once is not read ahead */
    struct stat status;
    int fd = resolve(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return -1;
    bool is_file = !fstat(fd, &status) && S_ISREG(status.st_mode);
    for (off_t at = 0; is_file && at < status.st_size && at < FETCH_BYTES; at += PIECE)
        posix_fadvise(fd, at, PIECE, POSIX_FADV_WILLNEED);
    close(fd);
    return is_file ? 0 : -1;
}

struct fd_path fd_path(int fd) {
    struct fd_path path;
    snprintf(path.text, sizeof path.text, "/proc/self/fd/%d", fd);
    return path;
}
