/* A guest without a VM: the console's half of init as a process, for tests.
 *     console_process FD BOOT_ID COMMAND ARG…
 * FD is a tty or a socket; COMMAND's output is the container's. Ends when COMMAND has and all is told. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../console.h"

static struct console console;
static struct { uint32_t exec; pid_t pid; int tty; } running[CONSOLE_EXECS];
static int woken[2];

static void on_child(int signal)
{
    int kept = errno;
    (void)signal;
    if (write(woken[1], "", 1) < 0)
        errno = kept;
    errno = kept;
}

static int find(uint32_t exec)
{
    for (int i = 0; i < CONSOLE_EXECS; i++)
        if (running[i].exec == exec)
            return i;
    return -1;
}

static void become(const struct exec_request *asked)
{
    for (int i = 0; asked->env[i]; i++)
        putenv((char *)(uintptr_t)asked->env[i]);
    if (*asked->cwd && chdir(asked->cwd))
        _exit(126);
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    signal(SIGCHLD, SIG_DFL);
    execvp(asked->argv[0], (char *const *)(uintptr_t)asked->argv);
    _exit(127);
}

static int on_exec(void *ctx, uint32_t exec, const struct exec_request *asked, struct exec_fds *fds)
{
    int i = find(0), master = -1, in[2], out[2], err[2];
    pid_t pid;
    (void)ctx;
    if (i < 0 || !strcmp(asked->argv[0], "refused"))
        return -EPERM;
    if (asked->tty) {
        struct winsize size = {(unsigned short)asked->rows, (unsigned short)asked->cols, 0, 0};
        pid = forkpty(&master, NULL, NULL, &size);
        if (pid == 0)
            become(asked);
        *fds = (struct exec_fds){dup(master), dup(master), -1};
    } else {
        if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
            return -errno;
        pid = fork();
        if (pid == 0) {
            dup2(in[0], 0);
            dup2(out[1], 1);
            dup2(err[1], 2);
            become(asked);
        }
        close(in[0]);
        close(out[1]);
        close(err[1]);
        *fds = (struct exec_fds){in[1], out[0], err[0]};
    }
    if (pid < 0)
        return -errno;
    running[i].exec = exec;
    running[i].pid = pid;
    running[i].tty = master;
    return 0;
}

static void on_resize(void *ctx, uint32_t exec, unsigned rows, unsigned cols)
{
    int i = find(exec);
    struct winsize size = {(unsigned short)rows, (unsigned short)cols, 0, 0};
    (void)ctx;
    if (i >= 0 && running[i].tty >= 0)
        ioctl(running[i].tty, TIOCSWINSZ, &size);
}

static void on_signal(void *ctx, uint32_t exec, int signal)
{
    int i = find(exec);
    (void)ctx;
    if (i >= 0)
        kill(running[i].pid, signal);
}

static void on_close(void *ctx, uint32_t exec)
{
    on_signal(ctx, exec, SIGKILL);
}

static const struct console_ops ops = {on_exec, on_resize, on_signal, on_close};

static pid_t start(char **command)
{
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        exit(2);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        dup2(err[1], 2);
        execvp(command[0], command);
        _exit(127);
    }
    close(out[1]);
    close(err[1]);
    console_add_source(&console, STREAM_STDOUT, out[0]);
    console_add_source(&console, STREAM_STDERR, err[0]);
    return pid;
}

/* Answers whether the container's own program has ended. */
static int reap(pid_t main_pid)
{
    int status, ended = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        ended |= pid == main_pid;
        for (int i = 0; i < CONSOLE_EXECS; i++) {
            if (running[i].pid != pid)
                continue;
            console_exec_exited(&console, running[i].exec, status);
            if (running[i].tty >= 0)
                close(running[i].tty);
            memset(&running[i], 0, sizeof running[i]);
        }
    }
    return ended;
}

int main(int argc, char **argv)
{
    if (argc < 4 || pipe2(woken, O_CLOEXEC | O_NONBLOCK))
        return 2;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, on_child);
    fcntl(atoi(argv[1]), F_SETFD, FD_CLOEXEC);
    if (console_open(&console, atoi(argv[1]), strtoull(argv[2], NULL, 16), &ops, NULL))
        return 2;
    console_note(&console, "init: started");
    pid_t pid = start(argv + 3);
    for (;;) {
        struct pollfd fds[CONSOLE_POLL_FDS + 1];
        char drop[64];
        int n = console_poll_fds(&console, fds, CONSOLE_POLL_FDS);
        fds[n] = (struct pollfd){woken[0], POLLIN, 0};
        if (poll(fds, (nfds_t)n + 1, console_timeout(&console)) < 0)
            continue;
        while (read(woken[0], drop, sizeof drop) > 0)
            ;
        console_handle(&console, fds, n);
        if (reap(pid)) {
            console_drain(&console, 10000);
            return 0;
        }
    }
}
