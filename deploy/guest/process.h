/* The container's processes: its own namespaces, the image's user, limits and environment. */
#ifndef PROCESS_H
#define PROCESS_H

#include "spec.h"
#include "user.h"

#include <stdbool.h>
#include <sys/types.h>

struct process {
    pid_t pid;      /* the first process of the container's PID namespace */
    int status_fd;  /* where it tells how the entrypoint ended, as wait() has it */
    int root;
    int in, out, err; /* our ends: in is -1 without tty; with tty all are the pty's master */
};

struct launch {
    const struct spec *spec;
    const struct user *user;
    char *const *argv;
    char *const *env; /* complete */
    const char *cwd;
};

/* Begin to read the program's file, as it is below `root`, so that its disk is at work while we are. */
void process_fetch(int root, const struct launch *launch);

/* Start the entrypoint. -1 after saying why. */
int process_start(struct process *process, int root, const struct launch *launch);

/* Start another process beside it, with these as its standard files; its pid, or -1. With `tty` they are one pty. */
pid_t process_exec(const struct process *process, const struct launch *launch, const int fds[3], bool tty);

/* A pty of the container's own: 0 and both ends, or -1. `name` gets its path inside. */
int process_pty(int root, const struct user *user, int *master, int *slave, char name[32]);

/* Pipes whose inner ends belong to this user, who may open /dev/stdout again: 0 or -1. */
int process_pipe(const struct user *user, int *outer, int *inner, bool to_container);

#endif
