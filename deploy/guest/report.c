#define _GNU_SOURCE
#include "report.h"

#include "files.h"
#include "log.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>

enum { PATIENCE_MS = 1000 };

void report_describe(int status, char *to, size_t room) {
    if (WIFSIGNALED(status))
        snprintf(to, room, "signal %d", WTERMSIG(status));
    else
        snprintf(to, room, "code %d", WEXITSTATUS(status));
}

void report_begin(struct xenstore *xenstore) {
    if (xenstore->fd >= 0)
        xenstore_write(xenstore, "vm-data/exit", "");
}

static void addresses(struct xenstore *xenstore, const struct spec_nic *nic) {
    int count4 = 0, count6 = 0;
    for (int i = 0; nic->addresses[i]; i++) {
        char path[64], address[64];
        bool is6 = strchr(nic->addresses[i], ':') != NULL;
        snprintf(path, sizeof path, "attr/vif/%d/ipv%d/%d", nic->device, is6 ? 6 : 4, is6 ? count6++ : count4++);
        snprintf(address, sizeof address, "%.*s", (int)strcspn(nic->addresses[i], "/"), nic->addresses[i]);
        xenstore_write(xenstore, path, address);
    }
}

static void features(struct xenstore *xenstore) {
    static const char *const can[] = {"control/feature-shutdown", "control/feature-poweroff",
                                      "control/feature-reboot"};
    struct utsname kernel;
    for (size_t i = 0; i < sizeof can / sizeof *can; i++)
        xenstore_write(xenstore, can[i], "1");
    if (!uname(&kernel))
        xenstore_write(xenstore, "data/os_uname", kernel.release);
    xenstore_write(xenstore, "data/os_name", "Bulkhead guest");
    xenstore_write(xenstore, "data/os_distro", "bulkhead");
}

void report_blank(struct xenstore *xenstore) {
    if (xenstore->fd < 0)
        return;
    features(xenstore);
    xenstore_write(xenstore, "vm-data/blank", "1");
    xenstore_write(xenstore, "data/updated", "1");
}

void report_taken(struct xenstore *xenstore) {
    if (xenstore->fd >= 0)
        xenstore_write(xenstore, "vm-data/blank", "0");
}

void report_ready(struct xenstore *xenstore, const struct spec *spec, bool all) {
    if (xenstore->fd < 0)
        return;
    if (all)
        features(xenstore);
    for (int i = 0; i < spec->nics; i++)
        addresses(xenstore, &spec->nic[i]);
    /* Last: whoever sees these may read all the others. */
    xenstore_write(xenstore, "data/updated", "1");
    xenstore_write(xenstore, "vm-data/ready", "1");
}

struct waiting {
    uint32_t request;
    bool answered;
};

static void answered(void *context, uint32_t request, const char *value) {
    struct waiting *waiting = context;
    (void)value;
    waiting->answered = waiting->answered || request == waiting->request;
}

void report_exit(struct xenstore *xenstore, const char *how) {
    if (xenstore->fd < 0)
        return;
    if (xenstore_write(xenstore, "vm-data/exit", how))
        failed("vm-data/exit");
    /* Answers come in the order of the requests: when this one is there, so is the value. */
    struct waiting waiting = {.request = xenstore_read(xenstore, "vm-data/exit")};
    xenstore->context = &waiting;
    xenstore->on_value = answered;
    xenstore->on_change = NULL;
    int64_t deadline = now_ms() + PATIENCE_MS;
    while (waiting.request && !waiting.answered && xenstore->fd >= 0 && now_ms() < deadline) {
        struct pollfd fd = {.fd = xenstore->fd, .events = POLLIN};
        if (poll(&fd, 1, 50) > 0)
            xenstore_handle(xenstore);
    }
}
