/* The one container of this VM, from its spec to its end, and what runs beside it for a console's reader. */
#ifndef CONTAINER_H
#define CONTAINER_H

#include "console.h"
#include "process.h"
#include "spec.h"
#include "user.h"

#include <stdbool.h>
#include <sys/types.h>

enum { CONTAINER_ENV = SPEC_ENV + 8, CONTAINER_EXEC_GRACE_MS = 2000 };

struct container_exec {
    uint32_t number; /* the console's; 0: free */
    pid_t pid;
    int terminal;    /* our end of its pty, or -1 */
    int64_t kill_at; /* when it is made to end, having been asked; 0: nobody asked */
};

struct container {
    struct spec spec;
    struct user user;
    struct process process;
    struct console *console;
    int root;
    char *env[CONTAINER_ENV + 1];
    struct container_exec execs[CONSOLE_EXECS];
    bool has_ended;
    int status; /* as wait() has it, once it has ended */
};

/* What the console calls when its reader asks for something; the context is the container. */
extern const struct console_ops container_console;

/* Begin to read its program out of the image, whose root this is: the container's own is not there yet. */
void container_fetch(struct container *container, int golden);

/* Start it in this root; what it writes goes to the console. -1 after saying why. */
int container_start(struct container *container, int root, struct console *console);

/* A child of init has ended: was it ours? */
void container_child_ended(struct container *container, pid_t pid, int status);

/* What only time brings; call it every second. */
void container_settle(struct container *container);

void container_signal(struct container *container, int signal);

#endif
