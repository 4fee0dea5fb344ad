/* Process 1 of a container's VM: sets up what spec.json asks for, runs it, says how it ended, powers off. */
#define _GNU_SOURCE
#include "console.h"
#include "container.h"
#include "disks.h"
#include "files.h"
#include "log.h"
#include "modules.h"
#include "net.h"
#include "report.h"
#include "root.h"
#include "uevents.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DRAIN_MS = 5000, LINGER_MS = 3000, STEP_MS = 1000, BLANK_STEP_MS = 60000 };

static struct console console;
static struct xenstore xenstore = {.fd = -1};
static struct container container;
static int signals = -1;
static int uevents = -1;       /* open while this guest is blank: it waits for its root disk */
static int64_t kill_at;        /* when the container is made to end; 0: nobody asked it to */
static int how_to_end = RB_POWER_OFF;
static uint32_t asked_for;     /* our question for control/shutdown */

static void begin_to_end(int how) {
    if (kill_at)
        return;
    how_to_end = how;
    if (uevents >= 0) {
        kill_at = INT64_MAX; /* there is nobody to kill */
        return;
    }
    kill_at = now_ms() + (int64_t)container.spec.grace_seconds * 1000;
    say("asked to end; signal %d, then %d seconds", container.spec.stop_signal, container.spec.grace_seconds);
    container_signal(&container, container.spec.stop_signal);
}

/* ----------------------------------------------------------------------------------------------- while it runs */

static void changed(void *context, const char *path) {
    (void)context;
    if (!strcmp(path, "control/shutdown"))
        asked_for = xenstore_read(&xenstore, path);
}

static void told(void *context, uint32_t request, const char *value) {
    (void)context;
    if (!asked_for || request != asked_for)
        return;
    asked_for = 0;
    bool reboots = value && !strcmp(value, "reboot");
    if (reboots || (value && (!strcmp(value, "poweroff") || !strcmp(value, "halt")))) {
        xenstore_write(&xenstore, "control/shutdown", "");
        begin_to_end(reboots ? RB_AUTOBOOT : RB_POWER_OFF);
    } else if (!value || !*value) {
        /* A watch speaks when it is new, and it is new again after a move: xenstore there knows nothing of us. */
        static bool has_spoken;
        if (has_spoken && uevents >= 0)
            report_blank(&xenstore);
        else if (has_spoken)
            report_ready(&xenstore, &container.spec, true);
        has_spoken = true;
    }
}

static void take_signals(void) {
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGTERM)
            begin_to_end(RB_POWER_OFF);
        else if (info.ssi_signo == SIGINT)
            begin_to_end(RB_AUTOBOOT);
    }
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        container_child_ended(&container, pid, status);
}

static int patience(int longest) {
    int timeout = console_timeout(&console);
    if (kill_at && kill_at - now_ms() < longest)
        longest = kill_at < now_ms() ? 0 : (int)(kill_at - now_ms());
    return timeout < 0 || longest < timeout ? longest : timeout;
}

/* `longest` ms at most, so that a moment missed is made up for. */
static void wait_for_something(int longest) {
    struct pollfd fds[3 + CONSOLE_POLL_FDS] = {{.fd = signals, .events = POLLIN},
                                               {.fd = xenstore.fd, .events = POLLIN},
                                               {.fd = uevents, .events = POLLIN}};
    int count = console_poll_fds(&console, fds + 3, CONSOLE_POLL_FDS);
    if (poll(fds, (nfds_t)(3 + count), patience(longest)) < 0)
        return; /* EINTR: asked again */
    if (fds[0].revents)
        take_signals();
    if (fds[1].revents && xenstore_handle(&xenstore))
        failed("xenstore");
    if (fds[2].revents)
        uevents_drain(uevents);
    console_handle(&console, fds + 3, count);
    container_settle(&container);
    if (kill_at && now_ms() >= kill_at) {
        say("still running after %d seconds: killed", container.spec.grace_seconds);
        container_signal(&container, SIGKILL);
        kill_at = INT64_MAX;
    }
}

/* ------------------------------------------------------------------------------------------------- the end */

__attribute__((noreturn)) static void leave(void) {
    console_drain(&console, DRAIN_MS);
    root_leave(container.root);
    reboot(how_to_end);
    for (;;)
        pause();
}

__attribute__((noreturn)) static void end(const char *how) {
    report_exit(&xenstore, how);
    say("the container has ended: %s", how);
    /* A container of a moment: whoever follows consoles has hardly found this one. */
    for (int64_t until = now_ms() + LINGER_MS; !console.is_attached && now_ms() < until;)
        wait_for_something(STEP_MS / 10);
    leave();
}

__attribute__((noreturn)) static void give_up(const char *why) {
    char how[256];
    say("%s", why);
    snprintf(how, sizeof how, "failed %s", why);
    end(how);
}

/* --------------------------------------------------------------------------------------------- the beginning */

static void early_mounts(void) {
    mkdir("/proc", 0555);
    mkdir("/sys", 0555);
    mkdir("/dev", 0755);
    mkdir("/run", 0755);
    if (mount("dev", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=755") && errno != EBUSY)
        failed("/dev");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""))
        failed("/proc");
    if (mount("sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""))
        failed("/sys");
    if (mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m"))
        failed("/run");
}

/* Xen's own console where the kernel has one, else the first serial port. */
static int open_terminal(void) {
    static char active[256];
    read_file("/sys/class/tty/console/active", active, sizeof active);
    int fd = open(strstr(active, "hvc0") ? "/dev/hvc0" : "/dev/ttyS0", O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    /* Nobody opens it again but with CAP_SYS_ADMIN, which no container has. */
    if (fd >= 0 && ioctl(fd, TIOCEXCL))
        failed("keeping the console to ourselves");
    return fd;
}

static void note(const char *line) { console_note(&console, line); }

static void open_console(void) {
    uint64_t boot_id;
    int fd = open_terminal();
    if (getrandom(&boot_id, sizeof boot_id, 0) != sizeof boot_id)
        boot_id = (uint64_t)now_ms();
    int status = console_open(&console, fd, boot_id, &container_console, &container);
    if (status) {
        errno = -status;
        failed("console");
        return;
    }
    /* The kernel's lines would fall between ours; what it says when it dies comes all the same. */
    klogctl(8, NULL, 1);
    say_to(note);
}

static bool is_xen(void) {
    char type[16];
    return read_file("/sys/hypervisor/type", type, sizeof type) > 0 && !strncmp(type, "xen", 3);
}

static void find_drivers(bool blank) {
    modules_load(is_xen() ? "xen" : "virtio");
    if (blank)
        return;
    /* Neither Xen nor virtio disks: an emulated controller. */
    if (!is_xen()) {
        char path[DISK_PATH];
        for (int64_t until = now_ms() + STEP_MS; now_ms() < until; sleep_ms(2))
            if (!access("/sys/class/block/vda", F_OK))
                return;
        modules_load("ata");
        disk_wait(DISK_ROOT, path);
    }
}

static bool is_to_be_blank(void) {
    char words[4096], *rest = words, *word;
    if (read_file("/proc/cmdline", words, sizeof words) < 0)
        return false;
    while ((word = strsep(&rest, " \n")))
        if (!strcmp(word, "bulkhead.blank"))
            return true;
    return false;
}

/* However long it takes, until this guest is given a root disk, or asked to end without ever having had one. */
static void wait_for_root(void) {
    char path[DISK_PATH];
    /* What every root needs sooner or later; whoever starts it shall not wait for that. */
    if (modules_load("erofs") || modules_load("overlay"))
        failed("modules");
    /* Before there is a root disk none but scratch can be there. */
    if (disk_is_announced() && root_mount_scratch())
        give_up("the scratch disk cannot be used");
    if (root_prepare() || net_prepare())
        give_up("what needs no image cannot be prepared");
    uevents = uevents_open();
    if (uevents < 0)
        give_up("the kernel tells of no devices");
    xenstore_watch(&xenstore, "control/shutdown");
    report_blank(&xenstore);
    say("blank: waiting for a root disk");
    while (disk_find(DISK_ROOT, path)) {
        wait_for_something(BLANK_STEP_MS);
        if (kill_at) {
            say("asked to end before there was a root disk");
            leave();
        }
    }
    close(uevents);
    uevents = -1;
    report_taken(&xenstore);
}

static void read_spec(void) {
    static char text[SPEC_BYTES + 2];
    char path[DISK_PATH], why[160], line[200];
    if (disk_wait(DISK_CONFIG, path))
        give_up("no config disk");
    long size = disk_read_config(path, text, sizeof text);
    if (size < 0)
        give_up("the config disk cannot be read");
    if (spec_parse(&container.spec, text, (size_t)size, why, sizeof why)) {
        snprintf(line, sizeof line, "spec.json: %s", why);
        give_up(line);
    }
}

static void block_signals(void) {
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGCHLD);
    sigaddset(&ours, SIGTERM); /* from our /sbin/poweroff, which the kernel runs when Xen asks */
    sigaddset(&ours, SIGINT);  /* from our /sbin/reboot, and of Ctrl-Alt-Del */
    sigprocmask(SIG_BLOCK, &ours, NULL);
    signal(SIGPIPE, SIG_IGN);
    signals = signalfd(-1, &ours, SFD_NONBLOCK | SFD_CLOEXEC);
    reboot(RB_DISABLE_CAD);
}

/* What the kernel calls when Xen asks for an end (drivers/xen/manage.c): tell process 1. */
static int helper(const char *name) {
    const char *slash = strrchr(name, '/');
    return kill(1, strcmp(slash ? slash + 1 : name, "reboot") ? SIGTERM : SIGINT) ? 1 : 0;
}

int main(int argc, char **argv) {
    if (getpid() != 1)
        return helper(argc ? argv[0] : "");
    container.root = -1;
    early_mounts();
    block_signals();
    open_console();
    if (write_file("/proc/self/oom_score_adj", "-1000"))
        failed("oom_score_adj");
    bool blank = is_to_be_blank();
    find_drivers(blank);
    if (xenstore_open(&xenstore) && is_xen())
        failed("xenstore");
    xenstore.on_change = changed;
    xenstore.on_value = told;
    report_begin(&xenstore);
    if (blank)
        wait_for_root();
    /* It takes longest of all here, and waits for its disk most of the time: begun before the others. */
    if (root_begin_scratch())
        give_up("the scratch disk cannot be used");
    int golden = root_mount_golden();
    if (golden < 0)
        give_up("the root cannot be mounted");
    read_spec();
    container_fetch(&container, golden);
    close(golden);
    if (sethostname(container.spec.hostname, strlen(container.spec.hostname)))
        failed("hostname");
    if (net_configure(&container.spec))
        give_up("the network cannot be set up");
    int root = root_assemble();
    if (root < 0 || root_furnish(root, &container.spec))
        give_up("the container's root cannot be set up");
    if (container_start(&container, root, &console))
        give_up("the container cannot be started");
    if (!blank)
        xenstore_watch(&xenstore, "control/shutdown");
    report_ready(&xenstore, &container.spec, !blank);
    while (!container.has_ended)
        wait_for_something(STEP_MS);
    char how[32];
    report_describe(container.status, how, sizeof how);
    end(how);
}
