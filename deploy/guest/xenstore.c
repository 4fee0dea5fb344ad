#include "xenstore.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <unistd.h>

enum { XS_READ = 2, XS_WATCH = 4, XS_WRITE = 11, XS_WATCH_EVENT = 15 };

struct header {
    uint32_t type, request, transaction, length;
};

int xenstore_open(struct xenstore *xenstore) {
    int flags = O_RDWR | O_NONBLOCK | O_CLOEXEC;
    xenstore->have = xenstore->queued = 0;
    xenstore->is_asking = false;
    xenstore->fd = open("/dev/xen/xenbus", flags);
    return xenstore->fd < 0 ? -1 : 0;
}

/* One message at a time: until xenstored has answered it, the kernel may still be reading it from the one buffer that
 * it keeps for this descriptor (drivers/xen/xenbus/xenbus_dev_frontend.c), and the next would overwrite it. */
static void send_next(struct xenstore *xenstore) {
    struct header header;
    if (xenstore->is_asking || !xenstore->queued || xenstore->fd < 0)
        return;
    memcpy(&header, xenstore->queue, sizeof header);
    size_t whole = sizeof header + header.length;
    xenstore->is_asking = write(xenstore->fd, xenstore->queue, whole) == (ssize_t)whole;
    xenstore->queued -= whole;
    memmove(xenstore->queue, xenstore->queue + whole, xenstore->queued);
}

static uint32_t request(struct xenstore *xenstore, uint32_t type, const struct iovec *parts, int count) {
    struct header header = {type, xenstore->last_request + 1, 0, 0};
    if (xenstore->fd < 0)
        return 0;
    for (int i = 0; i < count; i++)
        header.length += (uint32_t)parts[i].iov_len;
    if (header.length > XENSTORE_PAYLOAD || xenstore->queued + sizeof header + header.length > XENSTORE_QUEUE) {
        errno = E2BIG;
        return 0;
    }
    if (++xenstore->last_request == 0)
        header.request = xenstore->last_request = 1;
    memcpy(xenstore->queue + xenstore->queued, &header, sizeof header);
    xenstore->queued += sizeof header;
    for (int i = 0; i < count; i++) {
        memcpy(xenstore->queue + xenstore->queued, parts[i].iov_base, parts[i].iov_len);
        xenstore->queued += parts[i].iov_len;
    }
    send_next(xenstore);
    return header.request;
}

static struct iovec part(const char *text, size_t length) {
    return (struct iovec){(void *)(uintptr_t)text, length};
}

int xenstore_write(struct xenstore *xenstore, const char *path, const char *value) {
    struct iovec parts[] = {part(path, strlen(path) + 1), part(value, strlen(value))};
    return request(xenstore, XS_WRITE, parts, 2) ? 0 : -1;
}

int xenstore_watch(struct xenstore *xenstore, const char *path) {
    struct iovec parts[] = {part(path, strlen(path) + 1), part("init", 5)};
    return request(xenstore, XS_WATCH, parts, 2) ? 0 : -1;
}

uint32_t xenstore_read(struct xenstore *xenstore, const char *path) {
    struct iovec parts[] = {part(path, strlen(path) + 1)};
    return request(xenstore, XS_READ, parts, 1);
}

static void take(struct xenstore *xenstore, const struct header *header, const char *payload) {
    if (header->type != XS_WATCH_EVENT) {
        xenstore->is_asking = false;
        send_next(xenstore);
    }
    if (header->type == XS_WATCH_EVENT) {
        /* path NUL token NUL */
        if (memchr(payload, 0, header->length) && *payload && xenstore->on_change)
            xenstore->on_change(xenstore->context, payload);
    } else if (header->type == XS_READ) {
        if (xenstore->on_value)
            xenstore->on_value(xenstore->context, header->request, payload);
    } else if (header->type == 16 /* error */ && xenstore->on_value) {
        xenstore->on_value(xenstore->context, header->request, NULL);
    }
}

int xenstore_feed(struct xenstore *xenstore, const unsigned char *bytes, size_t size) {
    while (size) {
        struct header header;
        size_t room = sizeof xenstore->buffer - 1 - xenstore->have, some = size < room ? size : room;
        memcpy(xenstore->buffer + xenstore->have, bytes, some);
        xenstore->have += some;
        bytes += some;
        size -= some;
        while (xenstore->have >= sizeof header) {
            memcpy(&header, xenstore->buffer, sizeof header);
            if (header.length > XENSTORE_PAYLOAD)
                return -1;
            size_t whole = sizeof header + header.length;
            if (xenstore->have < whole)
                break;
            unsigned char after = xenstore->buffer[whole];
            xenstore->buffer[whole] = 0;
            take(xenstore, &header, (char *)xenstore->buffer + sizeof header);
            xenstore->buffer[whole] = after;
            memmove(xenstore->buffer, xenstore->buffer + whole, xenstore->have - whole);
            xenstore->have -= whole;
        }
    }
    return 0;
}

int xenstore_handle(struct xenstore *xenstore) {
    unsigned char bytes[1024];
    ssize_t size;
    while ((size = read(xenstore->fd, bytes, sizeof bytes)) > 0)
        if (xenstore_feed(xenstore, bytes, (size_t)size)) {
            errno = EPROTO;
            break;
        }
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    close(xenstore->fd);
    xenstore->fd = -1;
    return -1;
}
