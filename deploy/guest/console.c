#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "console_inner.h"

#define READER_AWAY 30000u     /* ms without a request: there is no reader any more */
#define TELL_DROPS 1000u       /* ms between two lines about what was dropped */
#define FIRST_GREETING 2000u   /* ms, doubled each time: who reads cannot know that it may ask */
#define LAST_GREETING 60000u
#define EXEC_ORPHANED 600000u  /* ms without one: nobody will come back for an exec */

uint64_t console_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int console_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

static void make_raw(int fd)
{
    struct termios t;
    if (tcgetattr(fd, &t))
        return;                /* no tty: a socket, in tests */
    t.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_oflag &= ~(tcflag_t)OPOST;
    t.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    t.c_cflag = (t.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    tcsetattr(fd, TCSANOW, &t);
}

int console_open(struct console *c, int fd, uint64_t boot_id, const struct console_ops *ops, void *ctx)
{
    memset(c, 0, sizeof *c);
    int failed = console_set_nonblocking(fd);
    if (failed)
        return failed;
    make_raw(fd);
    c->fd = fd;
    c->ops = ops;
    c->ctx = ctx;
    c->next_exec = 1;
    c->heard_at = c->wrote_at = console_now();
    c->tell_hello = true;
    c->greet_pause = FIRST_GREETING;
    c->greet_at = c->heard_at + c->greet_pause;
    snprintf(c->boot, sizeof c->boot, "%016" PRIx64, boot_id);
    channel_start(&c->output, 0, c->ring, sizeof c->ring, console_now());
    return 0;
}

int console_add_source(struct console *c, uint32_t stream, int fd)
{
    if (stream != STREAM_STDOUT && stream != STREAM_STDERR)
        return -EINVAL;
    int failed = console_set_nonblocking(fd);
    if (failed)
        return failed;
    return source_add(c, 0, stream == STREAM_STDERR ? 'e' : 'o', fd) ? 0 : -ENOSPC;
}

int console_note(struct console *c, const char *text)
{
    if (!channel_make_room(c, &c->output))
        return -EAGAIN;
    channel_say(c, &c->output, 'n', false, (const uint8_t *)text, strlen(text));
    return 0;
}

void console_reply(struct console *c, uint32_t channel, const char *verb, const char *text)
{
    if (c->replies_n == CONSOLE_REPLIES)
        return;                /* the reader asks again what got no answer */
    unsigned at = (c->replies_at + c->replies_n++) % CONSOLE_REPLIES;
    c->replies[at].channel = channel;
    snprintf(c->replies[at].text, sizeof c->replies[at].text, "%s %s", verb, text);
}

/* --------------------------------------------------------------------------------------- writing */

static void put_control(struct console *c, char kind, uint32_t channel, const char *text)
{
    char token[16];
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    snprintf(token, sizeof token, channel ? "%c%" PRIu32 : "%c", kind, channel);
    c->out_at = 0;
    c->out_n = frame_encode(c->out, kind == 'h' ? NULL : c->boot, token, 0,
                            (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000, text, strlen(text));
}

static void put_status(struct console *c, struct channel *channel, const struct console_exec *e)
{
    char text[FRAME_TEXT];
    int n = snprintf(text, sizeof text, "first=%" PRIu64 " next=%" PRIu64 " dropped=%" PRIu64, channel->first,
                     channel->next, channel->dropped);
    if (e)
        snprintf(text + n, sizeof text - (size_t)n, " in=%" PRIu64 " room=%zu eof=%d signals=%" PRIu64,
                 e->taken, sizeof e->data - e->n, e->ends_input, e->signals);
    channel->tell = channel->has_dropped = false;
    channel->told_at = console_now();
    put_control(c, 's', channel->number, text);
}

/* What says how things are goes before output; channels take turns, so that none waits for a chatty one. */
static bool next_line(struct console *c)
{
    if (c->tell_hello) {
        char text[160];
        c->tell_hello = false;
        snprintf(text, sizeof text, "1 boot=%s exec=%" PRIu32 " garbled=%" PRIu64 " to=%s", c->boot,
                 c->next_exec, c->garbled, *c->nonce ? c->nonce : "-");
        *c->nonce = 0;
        put_control(c, 'h', 0, text);
        return true;
    }
    if (c->replies_n) {
        unsigned at = c->replies_at;
        c->replies_at = (at + 1) % CONSOLE_REPLIES;
        c->replies_n--;
        put_control(c, 'r', c->replies[at].channel, c->replies[at].text);
        return true;
    }
    for (unsigned i = 0; i <= CONSOLE_EXECS; i++) {
        c->turn = (c->turn + 1) % (CONSOLE_EXECS + 1);
        struct console_exec *e = c->turn ? &c->execs[c->turn - 1] : NULL;
        struct channel *channel = e ? &e->channel : &c->output;
        if (e && !e->used)
            continue;
        if (channel->tell || (channel->has_dropped && console_now() - channel->told_at >= TELL_DROPS)) {
            put_status(c, channel, e);
            return true;
        }
        c->out_at = 0;
        c->out_n = channel_take(channel, c->is_attached, c->out, console_now());
        if (c->out_n)
            return true;
    }
    return false;
}

static void write_lines(struct console *c)
{
    for (;;) {
        if (c->out_at == c->out_n && !next_line(c))
            return;
        ssize_t put = write(c->fd, c->out + c->out_at, c->out_n - c->out_at);
        if (put <= 0)
            return;
        c->out_at += (size_t)put;
        c->wrote_at = console_now();
    }
}

static bool channel_is_due(const struct console *c, const struct channel *channel)
{
    return channel->tell ||
           (channel->send < channel->next && (!c->is_attached || channel->send <= channel->credit));
}

static bool has_to_write(const struct console *c)
{
    bool has = c->out_at < c->out_n || c->tell_hello || c->replies_n || channel_is_due(c, &c->output);
    for (int i = 0; i < CONSOLE_EXECS && !has; i++)
        has = c->execs[i].used && channel_is_due(c, &c->execs[i].channel);
    return has;
}

/* --------------------------------------------------------------------------------------- waiting */

int console_poll_fds(struct console *c, struct pollfd *fds, int max)
{
    int n = 0;
    if (max > 0)
        fds[n++] = (struct pollfd){c->fd, (short)(POLLIN | (has_to_write(c) ? POLLOUT : 0)), 0};
    for (int i = 0; i < CONSOLE_SOURCES && n < max; i++)
        if (source_wants_read(c, &c->sources[i]))
            fds[n++] = (struct pollfd){c->sources[i].fd, POLLIN, 0};
    for (int i = 0; i < CONSOLE_EXECS && n < max; i++)
        if (c->execs[i].used && c->execs[i].in >= 0 && (c->execs[i].n || c->execs[i].ends_input))
            fds[n++] = (struct pollfd){c->execs[i].in, POLLOUT, 0};
    return n;
}

int console_timeout(const struct console *c)
{
    if (!c->is_attached)
        return 1000;
    bool owes = c->output.first < c->output.next;
    for (int i = 0; i < CONSOLE_EXECS; i++)
        owes = owes || c->execs[i].used;
    return owes ? 500 : 5000;
}

static short revents_of(const struct pollfd *fds, int n, int fd)
{
    for (int i = 0; i < n; i++)
        if (fds[i].fd == fd)
            return fds[i].revents;
    return 0;
}

static void look_at_the_clock(struct console *c)
{
    uint64_t silent = console_now() - c->heard_at;
    if (c->is_attached && silent >= READER_AWAY)
        c->is_attached = false;
    if (c->is_attached) {
        c->greet_pause = FIRST_GREETING;
        c->greet_at = console_now() + c->greet_pause;
    } else if (console_now() >= c->greet_at) {
        c->tell_hello = true;
        c->greet_pause = c->greet_pause * 2 < LAST_GREETING ? c->greet_pause * 2 : LAST_GREETING;
        c->greet_at = console_now() + c->greet_pause;
    }
    if (silent < EXEC_ORPHANED)
        return;
    c->heard_at = console_now();
    for (int i = 0; i < CONSOLE_EXECS; i++) {
        struct console_exec *e = &c->execs[i];
        if (e->is_ended)
            e->used = false;
        if (e->used && !e->has_exited && c->ops->on_close)
            c->ops->on_close(c->ctx, e->channel.number);
    }
}

void console_handle(struct console *c, const struct pollfd *fds, int n)
{
    look_at_the_clock(c);
    if (revents_of(fds, n, c->fd) & (POLLIN | POLLHUP | POLLERR))
        asks_read(c);
    for (int i = 0; i < CONSOLE_SOURCES; i++) {
        struct console_source *s = &c->sources[i];
        if (s->used && !s->n && revents_of(fds, n, s->fd))
            source_read(s);
        if (s->used)
            source_frame(c, s);
    }
    for (int i = 0; i < CONSOLE_EXECS; i++) {
        if (!c->execs[i].used)
            continue;
        if (c->execs[i].in >= 0 && revents_of(fds, n, c->execs[i].in))
            exec_write_stdin(c, &c->execs[i]);
        exec_settle(c, &c->execs[i]);
    }
    write_lines(c);
}

void console_drain(struct console *c, int ms)
{
    uint64_t until = console_now() + (uint64_t)ms;
    struct pollfd fds[CONSOLE_POLL_FDS];
    for (;;) {
        bool is_dry = sources_are_dry(c, 0);
        write_lines(c);
        bool is_sent = c->out_at == c->out_n && c->output.send == c->output.next;
        bool is_known = !c->is_attached || c->output.first == c->output.next;
        uint64_t now = console_now();
        if ((is_dry && is_sent && is_known) || now >= until)
            return;
        int n = console_poll_fds(c, fds, CONSOLE_POLL_FDS);
        int wait = until - now < 100 ? (int)(until - now) : 100;
        if (poll(fds, (nfds_t)n, wait) >= 0)
            console_handle(c, fds, n);
    }
}
