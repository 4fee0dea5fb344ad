/* What to run: spec.json, version 1, as the config disk holds it (docs/guest.md). */
#ifndef SPEC_H
#define SPEC_H

#include "json.h"

#include <stdint.h>
#include <sys/resource.h>

enum {
    SPEC_BYTES = 512 * 1024, /* the longest spec.json, in bytes */
    SPEC_ARGS = 1024,
    SPEC_ENV = 2048,
    SPEC_NICS = 8,
    SPEC_ADDRESSES = 16, /* per NIC */
    SPEC_NAMES = 256,    /* hosts */
    SPEC_HOST_IPS = 8,
    SPEC_RESOLV = 8,
    SPEC_MOUNTS = 8,
    SPEC_RLIMITS = RLIM_NLIMITS,
    SPEC_GROUPS = 64,
};

struct spec_nic {
    int device;
    unsigned char mac[6];
    bool has_mac;
    int mtu; /* bytes; 0: the driver's */
    const char *addresses[SPEC_ADDRESSES + 1];
    const char *gateway4, *gateway6;
};

struct spec_host {
    const char *name;
    const char *ips[SPEC_HOST_IPS + 1];
};

struct spec_mount {
    int device;
    const char *path, *fs;
    bool read_only;
};

struct spec_rlimit {
    int resource;
    struct rlimit limit;
};

struct spec {
    const char *hostname, *cwd, *user;
    char *argv[SPEC_ARGS + 1];
    char *env[SPEC_ENV + 1]; /* "NAME=value" */
    const char *groups[SPEC_GROUPS + 1];
    int stop_signal;
    int grace_seconds;
    bool tty;
    int nics, hosts, mounts, rlimits;
    struct spec_nic nic[SPEC_NICS];
    struct spec_host host[SPEC_NAMES];
    struct spec_mount mount[SPEC_MOUNTS];
    struct spec_rlimit rlimit[SPEC_RLIMITS];
    const char *nameservers[SPEC_RESOLV + 1], *search[SPEC_RESOLV + 1];
    struct json json;
    char arena[SPEC_BYTES]; /* the environment's pairs, joined */
};

/* Read `size` bytes at `text`, which must hold one byte more and is changed; strings of `spec` point there.
 * On failure -1, and `why` says in one line which field is wrong and how. */
int spec_parse(struct spec *spec, char *text, size_t size, char *why, size_t why_size);

/* The signal's number of "SIGTERM", "TERM" or "15"; -1 when it is none. */
int spec_signal(const char *name);

/* Read an address "10.1.2.3/24" or "fd00::3/64": family, bytes and bits of the prefix; -1 when it is none. */
int spec_address(const char *text, int *family, unsigned char bytes[16], int *prefix);

#endif
