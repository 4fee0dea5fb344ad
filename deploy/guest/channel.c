#include "channel.h"

#include <string.h>

#include "frame.h"

#define RECORD 4               /* before each frame: its length, and the bytes of output it stands for */
#define FIRST_PATIENCE 3000u
#define LONGEST_PATIENCE 24000u

static void copy_in(struct channel *c, size_t at, const void *data, size_t n)
{
    size_t head = n < c->size - at ? n : c->size - at;
    memcpy(c->ring + at, data, head);
    memcpy(c->ring, (const char *)data + head, n - head);
}

static void copy_out(const struct channel *c, size_t at, void *data, size_t n)
{
    size_t head = n < c->size - at ? n : c->size - at;
    memcpy(data, c->ring + at, head);
    memcpy((char *)data + head, c->ring, n - head);
}

static void record_at(const struct channel *c, size_t at, uint16_t record[2])
{
    copy_out(c, at, record, RECORD);
}

static size_t after(const struct channel *c, size_t at)
{
    uint16_t record[2];
    record_at(c, at, record);
    return (at + RECORD + record[0]) % c->size;
}

static void forget_oldest(struct channel *c)
{
    uint16_t record[2];
    record_at(c, c->start, record);
    bool was_next = c->send == c->first;
    c->start = (c->start + RECORD + record[0]) % c->size;
    c->used -= RECORD + record[0];
    c->first++;
    if (was_next) {
        c->send = c->first;
        c->unsent = c->start;
    }
}

void channel_start(struct channel *c, uint32_t number, char *ring, size_t size, uint64_t now)
{
    memset(c, 0, sizeof *c);
    c->number = number;
    c->ring = ring;
    c->size = size;
    c->first = c->send = c->next = 1;
    c->moved_at = c->tried_at = now;
    c->patience = FIRST_PATIENCE;
}

bool channel_has_room(const struct channel *c)
{
    return c->size - c->used >= RECORD + FRAME_MAX;
}

void channel_put(struct channel *c, const char *frame, size_t n, size_t bytes, uint64_t now)
{
    uint16_t record[2] = {(uint16_t)n, (uint16_t)bytes};
    size_t at = (c->start + c->used) % c->size;
    if (c->first == c->next)
        c->moved_at = now;     /* nobody was owed anything until now */
    if (c->send == c->next)
        c->unsent = at;
    copy_in(c, at, record, RECORD);
    copy_in(c, (at + RECORD) % c->size, frame, n);
    c->used += RECORD + n;
    c->next++;
}

size_t channel_take(struct channel *c, bool is_attached, char *out, uint64_t now)
{
    uint16_t record[2];
    if (is_attached && c->first < c->send && now - c->tried_at >= c->patience) {
        channel_again(c, c->first);
        c->patience = c->patience * 2 < LONGEST_PATIENCE ? c->patience * 2 : LONGEST_PATIENCE;
    }
    if (c->send == c->next || (is_attached && c->send > c->credit))
        return 0;
    record_at(c, c->unsent, record);
    copy_out(c, (c->unsent + RECORD) % c->size, out, record[0]);
    c->unsent = after(c, c->unsent);
    c->send++;
    c->tried_at = now;
    return record[0];
}

void channel_ack(struct channel *c, uint64_t seq, uint64_t now)
{
    if (seq >= c->next)
        seq = c->next - 1;     /* of what was never given nothing can have come */
    if (seq < c->first)
        return;
    while (c->first <= seq)
        forget_oldest(c);
    c->moved_at = c->tried_at = now;
    c->patience = FIRST_PATIENCE;
}

void channel_again(struct channel *c, uint64_t seq)
{
    if (seq > c->next)
        seq = c->next;
    c->send = c->first;
    c->unsent = c->start;
    while (c->send < seq) {
        c->unsent = after(c, c->unsent);
        c->send++;
    }
}

void channel_drop(struct channel *c)
{
    uint16_t record[2];
    record_at(c, c->start, record);
    c->dropped += record[1];
    forget_oldest(c);
    c->has_dropped = true;
}
