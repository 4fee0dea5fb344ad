/* From pipes to frames: what the container and its execs write. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "console_inner.h"

#define TTY_STUCK 5000u        /* ms: nobody takes what the tty is given */
#define DRY_TURNS 64           /* reads after which others come first */
#define READER_STUCK 60000u    /* ms: there is a reader, but it acknowledges nothing */

struct channel *channel_of(struct console *c, uint32_t exec)
{
    struct console_exec *found = exec ? exec_find(c, exec) : NULL;
    return exec ? found ? &found->channel : NULL : &c->output;
}

struct console_source *source_add(struct console *c, uint32_t exec, char kind, int fd)
{
    for (int i = 0; i < CONSOLE_SOURCES; i++) {
        struct console_source *s = &c->sources[i];
        if (s->used)
            continue;
        s->used = true;
        s->fd = fd;
        s->exec = exec;
        s->kind = kind;
        s->at = s->n = 0;
        return s;
    }
    return NULL;
}

/* The container must not stand still for ever because nobody looks: then its oldest output goes. An exec
 * has somebody who asked for it: it waits. */
bool channel_make_room(struct console *c, struct channel *channel)
{
    uint64_t now = console_now();
    while (!channel_has_room(channel)) {
        if (channel->number)
            return false;
        bool is_sent = channel->first < channel->send;
        bool may_drop = c->is_attached ? now - channel->moved_at >= READER_STUCK
                                       : is_sent || now - c->wrote_at >= TTY_STUCK;
        if (!may_drop)
            return false;
        channel_drop(channel);
    }
    return true;
}

void channel_say(struct console *c, struct channel *channel, char kind, bool goes_on,
                 const uint8_t *data, size_t n)
{
    char token[16], text[FRAME_TEXT], frame[FRAME_MAX];
    struct timespec t;
    size_t used;
    size_t length = frame_escape(text, sizeof text, data, n, &used);
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    int head = snprintf(token, sizeof token, "%c%s", kind, goes_on ? "+" : "");
    if (channel->number)
        snprintf(token + head, sizeof token - (size_t)head, "%" PRIu32, channel->number);
    size_t size = frame_encode(frame, c->boot, token, channel->next, ms, text, length);
    channel_put(channel, frame, size, n + !goes_on, console_now());
}

bool source_wants_read(struct console *c, const struct console_source *s)
{
    struct channel *channel = channel_of(c, s->exec);
    return s->used && s->n == 0 && channel && channel_make_room(c, channel);
}

bool source_read(struct console_source *s)
{
    ssize_t got = read(s->fd, s->data, sizeof s->data);
    if (got > 0) {
        s->at = 0;
        s->n = (size_t)got;
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    close(s->fd);              /* its end; EIO is that of a tty */
    s->used = false;
    return false;
}

/* A line each of the container's, so that a person can read them; as much as fits of an exec's. */
bool source_frame(struct console *c, struct console_source *s)
{
    struct channel *channel = channel_of(c, s->exec);
    while (s->n) {
        if (!channel || !channel_make_room(c, channel))
            return false;
        char text[FRAME_TEXT];
        const uint8_t *from = s->data + s->at;
        const uint8_t *end = s->exec ? NULL : memchr(from, '\n', s->n);
        size_t most = end ? (size_t)(end - from) : s->n, used;
        frame_escape(text, sizeof text, from, most, &used);
        bool is_whole = end && used == most;
        channel_say(c, channel, s->kind, !is_whole, from, used);
        s->at += used + is_whole;
        s->n -= used + is_whole;
    }
    return true;
}

bool sources_are_dry(struct console *c, uint32_t exec)
{
    for (int i = 0; i < CONSOLE_SOURCES; i++) {
        struct console_source *s = &c->sources[i];
        int turns = 0;
        while (s->used && s->exec == exec) {
            if (!source_frame(c, s) || ++turns > DRY_TURNS)
                return false;
            if (!source_read(s))
                break;
        }
    }
    return true;
}

void sources_close(struct console *c, uint32_t exec)
{
    for (int i = 0; i < CONSOLE_SOURCES; i++) {
        struct console_source *s = &c->sources[i];
        if (s->used && s->exec == exec) {
            close(s->fd);
            s->used = false;
        }
    }
}
