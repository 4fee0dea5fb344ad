/* One channel's window: the frames that the reader has not acknowledged yet, oldest first. */
#ifndef BULKHEAD_CHANNEL_H
#define BULKHEAD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct channel {
    uint32_t number;           /* 0 is the container's */
    char *ring;
    size_t size, start, used;  /* bytes: of the ring, where the oldest frame is, of all kept */
    size_t unsent;             /* where the next to send is */
    uint64_t first, send, next;/* sequence numbers: oldest kept, next to send, next to be given */
    uint64_t credit;           /* the last that the reader wants to have */
    uint64_t dropped;          /* bytes of output that no reader can have any more */
    uint64_t moved_at;         /* ms: when an acknowledgement moved it last */
    uint64_t tried_at, patience; /* ms: when a frame was sent last, and how long to wait for its ack */
    bool tell;                 /* its state is to be told now */
    bool has_dropped;          /* … and soon, since something was dropped */
    uint64_t told_at;          /* ms */
};

void channel_start(struct channel *, uint32_t number, char *ring, size_t size, uint64_t now);

/* Room for one more frame? */
bool channel_has_room(const struct channel *);

/* Keeps a frame of `n` <= FRAME_MAX bytes that stands for `bytes` of output; the caller made sure of room. */
void channel_put(struct channel *, const char *frame, size_t n, size_t bytes, uint64_t now);

/* Copies the next frame to be sent; 0 when there is none that may be. */
size_t channel_take(struct channel *, bool is_attached, char *out, uint64_t now);

/* The reader has everything through `seq`. */
void channel_ack(struct channel *, uint64_t seq, uint64_t now);

/* Send again from `seq`, or from the oldest kept. */
void channel_again(struct channel *, uint64_t seq);

/* Forgets the oldest frame, and counts what it held. */
void channel_drop(struct channel *);

#endif
