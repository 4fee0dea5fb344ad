#define _GNU_SOURCE
#include "process.h"

#include "files.h"
#include "log.h"
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_ROOM = 4096 };

/* Docker's set, and what more a root may who is alone on his kernel. Left out is what reaches the console, the
 * disks or the kernel's own code: SYS_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_BOOT, SYSLOG, SYS_TIME, MAC_*, BPF … */
static const int allowed[] = {
    CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FSETID,           CAP_FOWNER,     CAP_MKNOD,      CAP_NET_RAW,
    CAP_SETGID,  CAP_SETUID,       CAP_SETFCAP,          CAP_SETPCAP,    CAP_NET_BIND_SERVICE,
    CAP_KILL,    CAP_SYS_CHROOT,   CAP_AUDIT_WRITE,      CAP_NET_ADMIN,  CAP_SYS_NICE,
    CAP_IPC_LOCK, CAP_SYS_PTRACE,  CAP_SYS_RESOURCE,     CAP_NET_BROADCAST, CAP_LEASE,
};

static int drop_capabilities(void) {
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++) {
        bool keep = false;
        for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
            keep = keep || allowed[i] == capability;
        if (!keep && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
            return -1;
    }
    return 0;
}

static int set_limits(const struct spec *spec) {
    struct rlimit files = {1024, 524288};
    if (setrlimit(RLIMIT_NOFILE, &files))
        return -1;
    for (int i = 0; i < spec->rlimits; i++)
        if (setrlimit((int)spec->rlimit[i].resource, &spec->rlimit[i].limit))
            return -1;
    return 0;
}

static int become(const struct user *user) {
    return setgroups((size_t)user->group_count, user->groups) || setgid(user->gid) || setuid(user->uid) ? -1 : 0;
}

static const char *path_of(char *const *env) {
    for (; *env; env++)
        if (!strncmp(*env, "PATH=", 5))
            return *env + 5;
    return "";
}

/* As Docker: 127 when there is no such program, 126 when it cannot be run. */
__attribute__((noreturn)) static void refuse(const char *program) {
    int reason = errno;
    dprintf(2, "bulkhead: %s: %s\n", program, strerror(reason));
    _exit(reason == ENOENT || reason == ENOTDIR ? 127 : 126);
}

/* Where a program may be by what is left of PATH: the next place, or false. */
static bool next_place(const char **at, const char *program, char path[PATH_ROOM]) {
    while (**at) {
        size_t length = strcspn(*at, ":");
        int size = snprintf(path, PATH_ROOM, "%.*s/%s", length ? (int)length : 1, length ? *at : ".", program);
        *at += length + ((*at)[length] == ':');
        if (size > 0 && size < PATH_ROOM)
            return true;
    }
    return false;
}

__attribute__((noreturn)) static void run(char *const *argv, char *const *env) {
    char path[PATH_ROOM];
    int reason = ENOENT;
    if (strchr(argv[0], '/')) {
        execve(argv[0], argv, env);
        refuse(argv[0]);
    }
    for (const char *at = path_of(env); next_place(&at, argv[0], path);) {
        execve(path, argv, env);
        if (errno != ENOENT && errno != ENOTDIR)
            reason = errno;
    }
    errno = reason;
    refuse(argv[0]);
}

void process_fetch(int root, const struct launch *launch) {
    char path[PATH_ROOM];
    const char *program = launch->argv[0], *at = path_of(launch->env);
    if (*program == '/')
        fetch_inside(root, program);
    else if (strchr(program, '/') && snprintf(path, sizeof path, "%s/%s", launch->cwd, program) < PATH_ROOM)
        fetch_inside(root, path);
    else
        while (next_place(&at, program, path) && fetch_inside(root, path)) {
        }
}

/* From root in the container's namespaces to the program; the standard files are in place. */
__attribute__((noreturn)) static void become_program(const struct launch *launch) {
    sigset_t none;
    struct stat status;
    sigemptyset(&none);
    for (int number = 1; number < 65; number++)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    if (write_file("/proc/self/oom_score_adj", "0"))
        failed("oom_score_adj");
    if (stat(launch->cwd, &status)) {
        int here = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(make_inside(here, launch->cwd));
        close(here);
    }
    if (chdir(launch->cwd)) {
        dprintf(2, "bulkhead: working directory %s: %s\n", launch->cwd, strerror(errno));
        _exit(errno == ENOENT || errno == ENOTDIR ? 127 : 126);
    }
    if (set_limits(launch->spec) || drop_capabilities() || become(launch->user)) {
        dprintf(2, "bulkhead: becoming the container's user: %s\n", strerror(errno));
        _exit(126);
    }
    syscall(SYS_close_range, 3, ~0U, 0);
    run(launch->argv, launch->env);
}

static void standard_files(const int fds[3], bool tty) {
    setsid();
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            _exit(126);
    if (tty && ioctl(0, TIOCSCTTY, 0))
        _exit(126);
}

/* Programs that only work as process 1: a system's init, or one that calls itself so (s6-overlay's /init). */
static bool wants_to_be_first(const char *program) {
    const char *slash = strrchr(program, '/');
    const char *name = slash ? slash + 1 : program;
    return !strcmp(name, "init") || !strcmp(name, "systemd");
}

/* Process 1 of the container: gives every signal on, and collects whom nobody waits for. */
__attribute__((noreturn)) static void reap(pid_t child, int status_fd) {
    sigset_t all;
    siginfo_t info;
    int status;
    sigfillset(&all);
    for (;;) {
        if (sigwaitinfo(&all, &info) < 0)
            continue;
        if (info.si_signo != SIGCHLD) {
            kill(child, info.si_signo);
            continue;
        }
        for (pid_t who; (who = waitpid(-1, &status, WNOHANG)) > 0;)
            if (who == child) {
                while (write(status_fd, &status, sizeof status) < 0 && errno == EINTR) {
                }
                _exit(0); /* the kernel ends whoever is left */
            }
    }
}

__attribute__((noreturn)) static void first_process(const struct launch *launch, const int fds[3],
                                                    const char *terminal, int status_fd) {
    sigset_t all;
    if (root_enter(terminal))
        _exit(126);
    if (wants_to_be_first(launch->argv[0])) {
        standard_files(fds, terminal != NULL);
        become_program(launch);
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    pid_t child = fork();
    if (!child) {
        close(status_fd);
        standard_files(fds, terminal != NULL);
        become_program(launch);
    }
    if (child < 0)
        _exit(126);
    /* It holds none of the container's standard files: their end is the program's end. */
    syscall(SYS_close_range, 0, (unsigned)status_fd - 1, 0);
    syscall(SYS_close_range, (unsigned)status_fd + 1, ~0U, 0);
    prctl(PR_SET_NAME, "bulkhead-init");
    prctl(PR_SET_DUMPABLE, 0);
    reap(child, status_fd);
}

int process_pipe(const struct user *user, int *outer, int *inner, bool to_container) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    *outer = ends[to_container ? 1 : 0];
    *inner = ends[to_container ? 0 : 1];
    return fchown(*inner, user->uid, user->gid) || fcntl(*outer, F_SETFL, O_NONBLOCK) ? -1 : 0;
}

int process_pty(int root, const struct user *user, int *master, int *slave, char name[32]) {
    int number, unlock = 0;
    *master = open_inside(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (*master < 0 || ioctl(*master, TIOCSPTLCK, &unlock) || ioctl(*master, (int)TIOCGPTN, &number))
        return -1;
    snprintf(name, 32, "/dev/pts/%d", number);
    *slave = open_inside(root, name, O_RDWR | O_NOCTTY);
    return *slave < 0 || fchown(*slave, user->uid, 5) ? -1 : 0;
}

int process_start(struct process *process, int root, const struct launch *launch) {
    int inner[3], ends[2];
    char terminal[32];
    bool tty = launch->spec->tty;
    if (pipe2(ends, O_CLOEXEC))
        return failed("pipe");
    if (tty) {
        if (process_pty(root, launch->user, &process->out, &inner[0], terminal))
            return failed("pty");
        process->in = process->err = process->out;
        inner[1] = inner[2] = inner[0];
    } else {
        process->in = -1;
        inner[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (inner[0] < 0 || process_pipe(launch->user, &process->out, &inner[1], false) ||
            process_pipe(launch->user, &process->err, &inner[2], false))
            return failed("pipe");
    }
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | SIGCHLD, 0, 0, 0, 0);
    if (!pid)
        first_process(launch, inner, tty ? terminal : NULL, ends[1]);
    close(ends[1]);
    for (int i = 0; i < (tty ? 1 : 3); i++)
        close(inner[i]);
    if (pid < 0)
        return failed("clone");
    process->pid = pid;
    process->root = root;
    process->status_fd = ends[0];
    return 0;
}

static int join_namespaces(pid_t pid) {
    static const char *const names[] = {"ipc", "pid", "mnt"};
    int fds[3];
    for (int i = 0; i < 3; i++) {
        char path[48];
        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, names[i]);
        if ((fds[i] = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            return -1;
    }
    /* Joining a mount namespace puts us at its root, which is the container's. */
    return setns(fds[0], 0) || setns(fds[1], 0) || setns(fds[2], 0) ? -1 : 0;
}

pid_t process_exec(const struct process *process, const struct launch *launch, const int fds[3], bool tty) {
    int ends[2];
    pid_t pid = -1;
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    pid_t between = fork();
    if (!between) {
        if (join_namespaces(process->pid))
            _exit(126);
        /* A child of init's own, so that init learns how it ended. */
        pid_t inside = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (!inside) {
            standard_files(fds, tty);
            become_program(launch);
        }
        _exit(write(ends[1], &inside, sizeof inside) == sizeof inside ? 0 : 126);
    }
    close(ends[1]);
    if (between > 0) {
        while (waitpid(between, NULL, 0) < 0 && errno == EINTR) {
        }
        if (read(ends[0], &pid, sizeof pid) != sizeof pid)
            pid = -1;
    }
    close(ends[0]);
    return pid;
}
