#define _GNU_SOURCE
#include "container.h"

#include "files.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define USUAL_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct environment {
    char **list;
    int count;
};

/* `pair` in place of one of the same name, else at the end; `keep`: one that is there stays. */
static void put(struct environment *to, char *pair, bool keep) {
    size_t name = strcspn(pair, "=") + 1;
    for (int i = 0; i < to->count; i++)
        if (!strncmp(to->list[i], pair, name)) {
            to->list[i] = keep ? to->list[i] : pair;
            return;
        }
    if (to->count < CONTAINER_ENV)
        to->list[to->count++] = pair;
    to->list[to->count] = NULL;
}

/* As Docker: what the image and its owner say, and PATH, HOSTNAME, TERM, HOME where they say nothing. */
static void build_env(char **list, const struct spec *spec, const struct user *user, bool tty, char *const *more,
                      char hostname[96], char home[272]) {
    static char path[] = USUAL_PATH, term[] = "TERM=xterm";
    struct environment env = {list, 0};
    for (int i = 0; spec->env[i]; i++)
        put(&env, spec->env[i], false);
    for (; more && *more; more++)
        put(&env, *more, false);
    put(&env, path, true);
    if (*spec->hostname) {
        snprintf(hostname, 96, "HOSTNAME=%s", spec->hostname);
        put(&env, hostname, true);
    }
    if (tty)
        put(&env, term, true);
    snprintf(home, 272, "HOME=%s", *user->home ? user->home : "/");
    put(&env, home, true);
}

static int find_user(struct container *container, const char *wanted, struct user *user) {
    static char passwd[USER_FILE_BYTES], group[USER_FILE_BYTES];
    char why[160];
    const char *users = read_inside(container->root, "/etc/passwd", passwd, sizeof passwd) < 0 ? NULL : passwd;
    const char *groups = read_inside(container->root, "/etc/group", group, sizeof group) < 0 ? NULL : group;
    if (user_find(user, wanted, container->spec.groups, users, groups, why, sizeof why)) {
        say("%s", why);
        return -1;
    }
    return 0;
}

static const char *absolute(const char *path, char *room, size_t size) {
    if (*path == '/')
        return path;
    snprintf(room, size, "/%s", path);
    return room;
}

/* Of the entrypoint; valid until the next. */
static struct launch entrypoint(struct container *container) {
    static char hostname[96], home[272], cwd[4096];
    const struct spec *spec = &container->spec;
    build_env(container->env, spec, &container->user, spec->tty, NULL, hostname, home);
    return (struct launch){.spec = spec,
                           .user = &container->user,
                           .argv = spec->argv,
                           .env = container->env,
                           .cwd = absolute(spec->cwd, cwd, sizeof cwd)};
}

void container_fetch(struct container *container, int golden) {
    struct launch launch = entrypoint(container);
    process_fetch(golden, &launch);
}

int container_start(struct container *container, int root, struct console *console) {
    const struct spec *spec = &container->spec;
    container->root = root;
    container->console = console;
    if (find_user(container, spec->user, &container->user))
        return -1;
    struct launch launch = entrypoint(container);
    if (process_start(&container->process, root, &launch))
        return -1;
    console_add_source(console, STREAM_STDOUT, container->process.out);
    if (!spec->tty)
        console_add_source(console, STREAM_STDERR, container->process.err);
    return 0;
}

static struct container_exec *exec_of(struct container *container, uint32_t number) {
    for (int i = 0; i < CONSOLE_EXECS; i++)
        if (container->execs[i].number == number)
            return &container->execs[i];
    return NULL;
}

void container_child_ended(struct container *container, pid_t pid, int status) {
    if (pid == container->process.pid) {
        /* The first process says how the entrypoint ended, unless it was the entrypoint or was killed itself. */
        int told;
        if (read(container->process.status_fd, &told, sizeof told) == sizeof told)
            status = told;
        container->has_ended = true;
        container->status = status;
        return;
    }
    for (int i = 0; i < CONSOLE_EXECS; i++) {
        struct container_exec *exec = &container->execs[i];
        if (exec->number && exec->pid == pid) {
            if (exec->terminal >= 0)
                close(exec->terminal);
            console_exec_exited(container->console, exec->number, status);
            exec->number = 0;
        }
    }
}

void container_settle(struct container *container) {
    for (int i = 0; i < CONSOLE_EXECS; i++) {
        struct container_exec *exec = &container->execs[i];
        if (exec->number && exec->kill_at && now_ms() >= exec->kill_at)
            kill(-exec->pid, SIGKILL);
    }
}

void container_signal(struct container *container, int signal) {
    /* Before it was started its pid is 0, which would be ourselves. */
    if (container->process.pid && !container->has_ended)
        kill(container->process.pid, signal);
}

static int exec_files(struct container *container, const struct user *user, bool tty, int inner[3],
                      struct exec_fds *outer, int *terminal) {
    char name[32];
    *terminal = outer->err = -1;
    if (!tty)
        return process_pipe(user, &outer->in, &inner[0], true) || process_pipe(user, &outer->out, &inner[1], false) ||
                       process_pipe(user, &outer->err, &inner[2], false)
                   ? -errno
                   : 0;
    if (process_pty(container->root, user, terminal, &inner[0], name))
        return -errno;
    inner[1] = inner[2] = inner[0];
    outer->in = fcntl(*terminal, F_DUPFD_CLOEXEC, 3);
    outer->out = fcntl(*terminal, F_DUPFD_CLOEXEC, 3);
    return outer->in < 0 || outer->out < 0 ? -errno : 0;
}

static void resize(int terminal, unsigned rows, unsigned cols) {
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    if (terminal >= 0 && rows && cols && ioctl(terminal, TIOCSWINSZ, &size))
        failed("size of a terminal");
}

static int on_exec(void *context, uint32_t number, const struct exec_request *asked, struct exec_fds *fds) {
    struct container *container = context;
    struct container_exec *exec = exec_of(container, 0);
    struct user user = container->user;
    char hostname[96], home[272];
    static char cwd[4096];
    static char *env[CONTAINER_ENV + 1];
    int inner[3];
    if (!exec || container->has_ended || !container->process.pid)
        return -EAGAIN;
    if (*asked->user && find_user(container, asked->user, &user))
        return -ENOENT;
    build_env(env, &container->spec, &user, asked->tty, (char *const *)(uintptr_t)asked->env, hostname, home);
    struct launch launch = {.spec = &container->spec,
                            .user = &user,
                            .argv = (char *const *)(uintptr_t)asked->argv,
                            .env = env,
                            .cwd = absolute(*asked->cwd ? asked->cwd : container->spec.cwd, cwd, sizeof cwd)};
    int status = exec_files(container, &user, asked->tty, inner, fds, &exec->terminal);
    if (status)
        return status;
    resize(exec->terminal, asked->rows, asked->cols);
    exec->pid = process_exec(&container->process, &launch, inner, asked->tty);
    for (int i = 0; i < (asked->tty ? 1 : 3); i++)
        close(inner[i]);
    if (exec->pid < 0) {
        close(fds->in);
        close(fds->out);
        if (asked->tty)
            close(exec->terminal);
        else
            close(fds->err);
        return -EIO;
    }
    exec->kill_at = 0;
    exec->number = number;
    return 0;
}

static void on_resize(void *context, uint32_t number, unsigned rows, unsigned cols) {
    struct container *container = context;
    struct container_exec *exec = number ? exec_of(container, number) : NULL;
    if (exec)
        resize(exec->terminal, rows, cols);
    else if (!number && container->spec.tty)
        resize(container->process.out, rows, cols);
}

static void on_signal(void *context, uint32_t number, int signal) {
    struct container *container = context;
    struct container_exec *exec = number ? exec_of(container, number) : NULL;
    if (exec)
        kill(exec->pid, signal);
    else if (!number)
        container_signal(container, signal);
}

static void on_close(void *context, uint32_t number) {
    struct container *container = context;
    struct container_exec *exec = number ? exec_of(container, number) : NULL;
    if (exec && !exec->kill_at) {
        kill(-exec->pid, SIGHUP);
        kill(-exec->pid, SIGCONT);
        exec->kill_at = now_ms() + CONTAINER_EXEC_GRACE_MS;
    }
}

const struct console_ops container_console = {
    .on_exec = on_exec, .on_resize = on_resize, .on_signal = on_signal, .on_close = on_close};
