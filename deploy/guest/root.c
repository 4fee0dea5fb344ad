#define _GNU_SOURCE
#include "root.h"

#include "disks.h"
#include "files.h"
#include "log.h"
#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GOLDEN "/run/golden"
#define SCRATCH "/run/scratch"
#define ROOT "/run/root"
#define FILES "/run/files"
#define PREPARED "/run/prepared"

static struct {
    char path[DISK_PATH];
    pid_t making; /* a file system on it */
    bool is_mounted;
} scratch;

int root_mount_golden(void) {
    char path[DISK_PATH];
    if (disk_partition("bulkhead-root", path))
        return failed("no partition bulkhead-root on the first disk");
    const char *type = disk_golden_type(path);
    if (!type) {
        say("%s is neither erofs nor squashfs", path);
        return -1;
    }
    if (modules_load(type) || modules_load("overlay"))
        return -1;
    mkdir(GOLDEN, 0755);
    if (mount(path, GOLDEN, type, MS_RDONLY | MS_NODEV, ""))
        return failed("mounting %s as %s", path, type);
    int golden = open(GOLDEN, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return golden < 0 ? failed(GOLDEN) : golden;
}

int root_begin_scratch(void) {
    if (*scratch.path)
        return 0;
    if (disk_wait(DISK_SCRATCH, scratch.path))
        return failed("no scratch disk");
    scratch.making = disk_begin_ext4(scratch.path);
    return scratch.making < 0 ? -1 : 0;
}

int root_mount_scratch(void) {
    if (scratch.is_mounted)
        return 0;
    if (root_begin_scratch() || disk_end_ext4(scratch.making, scratch.path))
        return -1;
    mkdir(SCRATCH, 0755);
    /* Inodes are written when they are used: to write all in advance would be at work just when a container starts, and
     * fill a thirtieth of a thin disk. */
    if (disk_mount_ext4(scratch.path, SCRATCH, false, "noinit_itable"))
        return -1;
    if (mkdir(SCRATCH "/upper", 0755) && errno != EEXIST)
        return failed(SCRATCH "/upper");
    if (mkdir(SCRATCH "/work", 0755) && errno != EEXIST)
        return failed(SCRATCH "/work");
    scratch.is_mounted = true;
    return 0;
}

int root_assemble(void) {
    struct stat golden;
    if (root_mount_scratch())
        return -1;
    mkdir(ROOT, 0755);
    /* The upper directory's owner and mode are those of /: the image's, not ours. */
    if (!stat(GOLDEN, &golden) && (chown(SCRATCH "/upper", golden.st_uid, golden.st_gid) ||
                                   chmod(SCRATCH "/upper", golden.st_mode & 07777)))
        return failed(SCRATCH "/upper");
    if (mount("overlay", ROOT, "overlay", MS_NODEV,
              "lowerdir=" GOLDEN ",upperdir=" SCRATCH "/upper,workdir=" SCRATCH "/work"))
        return failed("overlay");
    int root = open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? failed(ROOT) : root;
}

/* Mount at a directory inside of the root, made where missing. */
static int mount_inside(int root, const char *what, const char *path, const char *type, unsigned long flags,
                        const char *options) {
    int at = make_inside(root, path);
    if (at < 0)
        return failed("%s", path);
    int status = mount(what, fd_path(at).text, type, flags, options);
    close(at);
    return status ? failed("mounting %s", path) : 0;
}

/* Put the file `source` over the file `path` inside of the root. */
static int bind_inside(int root, const char *source, const char *path) {
    int at = touch_inside(root, path);
    if (at < 0)
        return failed("%s", path);
    int status = mount(source, fd_path(at).text, NULL, MS_BIND, NULL);
    close(at);
    return status ? failed("mounting %s", path) : 0;
}

static int volumes(int root, const struct spec *spec) {
    for (int i = 0; i < spec->mounts; i++) {
        const struct spec_mount *volume = &spec->mount[i];
        char path[DISK_PATH];
        if (disk_wait(volume->device, path))
            return failed("no disk %d for %s", volume->device, volume->path);
        int at = make_inside(root, volume->path);
        if (at < 0)
            return failed("%s", volume->path);
        int status = volume->read_only ? 0 : disk_end_ext4(disk_begin_ext4(path), path);
        if (!status)
            status = disk_mount_ext4(path, fd_path(at).text, volume->read_only, "");
        close(at);
        if (status)
            return -1;
    }
    return 0;
}

/* Device nodes work here and nowhere else: every other mount is nodev, so that a container which makes a node
 * for the console or for a disk cannot open it. */
static int devices(int root) {
    static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
    static const struct {
        const char *to, *at;
    } links[] = {{"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
                 {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},         {"/proc/kcore", "core"}};
    if (mount_inside(root, "dev", "/dev", "tmpfs", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=755,size=64k"))
        return -1;
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        char source[32], path[32];
        snprintf(source, sizeof source, "/dev/%s", nodes[i]);
        snprintf(path, sizeof path, "/dev/%s", nodes[i]);
        if (chmod(source, 0666) || bind_inside(root, source, path))
            return failed("%s", source);
    }
    int dev = open_inside(root, "/dev", O_PATH | O_DIRECTORY);
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (symlinkat(links[i].to, dev, links[i].at))
            return failed("/dev/%s", links[i].at);
    close(dev);
    return mount_inside(root, "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
                        "newinstance,ptmxmode=0666,mode=0620,gid=5") ||
                   mount_inside(root, "shm", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777")
               ? -1
               : 0;
}

int root_prepare(void) {
    static bool is_done;
    if (is_done)
        return 0;
    mkdir(FILES, 0755);
    if (mount("files", FILES, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=256k,mode=755"))
        return failed(FILES);
    mkdir(PREPARED, 0755);
    int at = open(PREPARED, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return failed(PREPARED);
    is_done = !devices(at) && !mount_inside(at, "sys", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "");
    close(at);
    return is_done ? 0 : -1;
}

static void hosts_file(FILE *to, const struct spec *spec) {
    fputs("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
          "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
          to);
    for (int i = 0; i < spec->nics; i++)
        for (int j = 0; spec->nic[i].addresses[j]; j++)
            if (*spec->hostname)
                fprintf(to, "%.*s\t%s\n", (int)strcspn(spec->nic[i].addresses[j], "/"), spec->nic[i].addresses[j],
                        spec->hostname);
    for (int i = 0; i < spec->hosts; i++)
        for (int j = 0; spec->host[i].ips[j]; j++)
            fprintf(to, "%s\t%s\n", spec->host[i].ips[j], spec->host[i].name);
}

static void resolv_file(FILE *to, const struct spec *spec) {
    for (int i = 0; spec->nameservers[i]; i++)
        fprintf(to, "nameserver %s\n", spec->nameservers[i]);
    for (int i = 0; spec->search[i]; i++)
        fprintf(to, "%s %s", i ? "" : "search", spec->search[i]);
    if (spec->search[0])
        fputc('\n', to);
}

static void hostname_file(FILE *to, const struct spec *spec) { fprintf(to, "%s\n", spec->hostname); }

static int place_file(int root, const struct spec *spec, const char *source, const char *path,
                      void (*write)(FILE *, const struct spec *)) {
    FILE *file = fopen(source, "we");
    if (!file)
        return failed("%s", source);
    write(file, spec);
    return fclose(file) ? failed("%s", source) : bind_inside(root, source, path);
}

int root_furnish(int root, const struct spec *spec) {
    if (root_prepare() || volumes(root, spec) || mount_inside(root, PREPARED "/dev", "/dev", NULL, MS_MOVE, NULL) ||
        mount_inside(root, PREPARED "/sys", "/sys", NULL, MS_MOVE, NULL) ||
        place_file(root, spec, FILES "/hosts", "/etc/hosts", hosts_file))
        return -1;
    if (*spec->hostname && place_file(root, spec, FILES "/hostname", "/etc/hostname", hostname_file))
        return -1;
    if (spec->nameservers[0] && place_file(root, spec, FILES "/resolv.conf", "/etc/resolv.conf", resolv_file))
        return -1;
    return 0;
}

/* What Docker hides or makes read-only, but for what reaches no further than this VM: /proc/sys/net, /proc/sys/vm.
 * /proc/sys/kernel must not be written: core_pattern and its kind start programs outside of the container. */
static int restrict_proc(int root) {
    static const char *const read_only[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"};
    static const char *const writable[] = {"/proc/sys/net", "/proc/sys/vm"};
    static const char *const files[] = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms"};
    static const char *const folders[] = {"/proc/acpi", "/proc/scsi", "/proc/xen", "/sys/firmware"};
    int kept[2];
    for (size_t i = 0; i < 2; i++)
        kept[i] = open_inside(root, writable[i], O_PATH);
    for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
        int at = open_inside(root, read_only[i], O_PATH);
        if (at < 0)
            continue; /* this kernel has none */
        int failure = mount(fd_path(at).text, fd_path(at).text, NULL, MS_BIND | MS_REC, NULL);
        close(at);
        at = open_inside(root, read_only[i], O_PATH);
        if (failure || mount(NULL, fd_path(at).text, NULL,
                             MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
            return failed("%s read-only", read_only[i]);
        close(at);
    }
    for (size_t i = 0; i < 2; i++) {
        int at = open_inside(root, writable[i], O_PATH);
        if (at >= 0 && mount(fd_path(kept[i]).text, fd_path(at).text, NULL, MS_BIND, NULL))
            return failed("%s", writable[i]);
        close(at);
        close(kept[i]);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int at = open_inside(root, files[i], O_PATH);
        if (at >= 0 && mount("/dev/null", fd_path(at).text, NULL, MS_BIND, NULL))
            return failed("hiding %s", files[i]);
        close(at);
    }
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        int at = open_inside(root, folders[i], O_PATH | O_DIRECTORY);
        if (at >= 0 && mount("tmpfs", fd_path(at).text, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=0"))
            return failed("hiding %s", folders[i]);
        close(at);
    }
    return 0;
}

int root_enter(const char *terminal) {
    /* Opened anew: a descriptor from before belongs to the mounts that init sees. */
    int root = open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return failed("private mounts");
    if (mount_inside(root, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "") ||
        mount_inside(root, "mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, "") ||
        restrict_proc(root))
        return -1;
    if (terminal) {
        int slave = open_inside(root, terminal, O_PATH);
        int status = slave < 0 ? -1 : bind_inside(root, fd_path(slave).text, "/dev/console");
        close(slave);
        if (status)
            return -1;
    }
    /* The initramfs is the kernel's own root, which pivot_root cannot move: lay the new root over it instead. */
    if (fchdir(root) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        return failed("entering the root");
    return 0;
}

void root_leave(int root) {
    close(root);
    sync();
    umount2(ROOT, MNT_DETACH);
    umount2(SCRATCH, MNT_DETACH);
    sync();
}
