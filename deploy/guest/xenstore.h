/* xenstore over the kernel's /dev/xen/xenbus: what is written is not waited for, what comes is handed out.
 * Wire format: Xen's public/io/xs_wire.h. */
#ifndef XENSTORE_H
#define XENSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { XENSTORE_PAYLOAD = 4096, XENSTORE_PATH = 1024, XENSTORE_VALUE = 2048, XENSTORE_QUEUE = 32768 };

struct xenstore;
/* A watched path changed, or may have: xenstore says so once by itself when a watch is new. */
typedef void xenstore_changed(void *context, const char *path);
/* An answer to xenstore_read: the value, or NULL when there is none. */
typedef void xenstore_value(void *context, uint32_t request, const char *value);

struct xenstore {
    int fd; /* -1: there is no xenstore, and every call does nothing */
    uint32_t last_request;
    xenstore_changed *on_change;
    xenstore_value *on_value;
    void *context;
    bool is_asking;            /* a message is under way; those in `queue` follow when its answer has come */
    size_t have, queued;
    unsigned char buffer[16 + XENSTORE_PAYLOAD + 1];
    unsigned char queue[XENSTORE_QUEUE];
};

/* Connect; -1 when this is no Xen guest. */
int xenstore_open(struct xenstore *xenstore);

/* Each 0, or -1 with errno when there is no room; the answer of a write or a watch is not told. What is asked for goes
 * out in its order, as answers come. */
int xenstore_write(struct xenstore *xenstore, const char *path, const char *value);
int xenstore_watch(struct xenstore *xenstore, const char *path);
/* Ask for a value: the request's number, which comes back with it; 0 when it could not be asked. */
uint32_t xenstore_read(struct xenstore *xenstore, const char *path);

/* Call when `fd` is readable; -1 when the connection is broken, which is closed then. */
int xenstore_handle(struct xenstore *xenstore);

/* Take bytes as they came; for xenstore_handle and tests. -1 when they are no answers of xenstore. */
int xenstore_feed(struct xenstore *xenstore, const unsigned char *bytes, size_t size);

#endif
