/* Small helpers on files, and paths that stay inside of the container's root whatever its links say. */
#ifndef FILES_H
#define FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { FETCH_BYTES = 4 << 20 };

/* Milliseconds on a clock that never goes back. */
int64_t now_ms(void);
void sleep_ms(int ms);

/* At most `room - 1` bytes of a file, ended with NUL: how many, or -1. A longer file is cut. */
ssize_t read_file(const char *path, char *to, size_t room);
/* 0, or -1 with errno. */
int write_file(const char *path, const char *text);

/* Open `path` as a process with the root `root` (a directory's descriptor) would; links cannot leave it. */
int open_inside(int root, const char *path, int flags);
/* The directory `path` inside of `root`, made with all above it where missing: a descriptor, or -1. */
int make_inside(int root, const char *path);
/* The file `path` inside of `root`, made empty where missing: a descriptor, or -1. */
int touch_inside(int root, const char *path);
/* The regular file `path` inside of `root`, at most `room - 1` bytes of it: how many, or -1. */
ssize_t read_inside(int root, const char *path, char *to, size_t room);

/* Have the kernel begin to read a regular file inside of `root`, or the first FETCH_BYTES of it, and do not wait for it:
 * 0, or -1 when there is none. */
int fetch_inside(int root, const char *path);

/* Where the kernel finds this descriptor by name. */
struct fd_path {
    char text[32];
};
struct fd_path fd_path(int fd);

#endif
