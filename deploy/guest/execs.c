/* What runs beside the container's program because the reader asked for it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console_inner.h"

struct console_exec *exec_find(struct console *c, uint32_t number)
{
    for (int i = 0; i < CONSOLE_EXECS; i++)
        if (c->execs[i].used && c->execs[i].channel.number == number)
            return &c->execs[i];
    return NULL;
}

static void close_input(struct console_exec *e)
{
    if (e->in >= 0)
        close(e->in);
    e->in = -1;
    e->n = 0;
}

static void refuse(struct console *c, uint32_t number, int error)
{
    char text[48];
    snprintf(text, sizeof text, "failed %d %s", error, strerror(error));
    console_reply(c, number, "exec", text);
}

/* A number is used once: who asks twice, because the answer got lost, opens nothing twice. */
void exec_open(struct console *c, const struct request *asked)
{
    struct console_exec *e = exec_find(c, asked->channel);
    if (e) {
        e->channel.tell = true;
        return;
    }
    if (asked->channel < c->next_exec) {
        console_reply(c, asked->channel, "exec", "gone");
        return;
    }
    for (e = c->execs; e < c->execs + CONSOLE_EXECS && e->used; e++)
        ;
    if (e == c->execs + CONSOLE_EXECS) {
        console_reply(c, asked->channel, "exec", "full");
        return;
    }
    struct exec_fds fds = {-1, -1, -1};
    c->next_exec = asked->channel < UINT32_MAX ? asked->channel + 1 : UINT32_MAX;
    int failed = c->ops->on_exec ? c->ops->on_exec(c->ctx, asked->channel, &asked->exec, &fds) : -ENOSYS;
    if (failed) {
        refuse(c, asked->channel, -failed);
        return;
    }
    e->used = true;
    e->has_exited = e->is_ended = e->ends_input = false;
    e->is_tty = asked->exec.tty;
    e->in = fds.in;
    e->taken = e->signals = 0;
    e->at = e->n = 0;
    if (e->in >= 0)
        console_set_nonblocking(e->in);
    channel_start(&e->channel, asked->channel, e->ring, sizeof e->ring, console_now());
    int outputs[] = {fds.out, fds.err};
    for (int i = 0; i < 2; i++) {
        if (outputs[i] < 0)
            continue;
        console_set_nonblocking(outputs[i]);
        source_add(c, asked->channel, "oe"[i], outputs[i]);
    }
    e->channel.tell = true;
}

/* Bytes have their place: what comes twice is taken once, what comes too early is asked for again. */
void exec_take_stdin(struct console *c, struct console_exec *e, const struct request *asked)
{
    e->channel.tell = true;
    if (asked->seq > e->taken || asked->seq + asked->size <= e->taken)
        return;
    size_t known = (size_t)(e->taken - asked->seq), fresh = asked->size - known;
    if (e->in < 0 || e->ends_input) {
        e->taken += fresh;     /* nobody reads it: as good as read */
        return;
    }
    if (e->at && e->n)
        memmove(e->data, e->data + e->at, e->n);
    e->at = 0;
    if (fresh > sizeof e->data - e->n)
        fresh = sizeof e->data - e->n;
    memcpy(e->data + e->n, asked->data + known, fresh);
    e->n += fresh;
    e->taken += fresh;
    exec_write_stdin(c, e);
}

void exec_take_eof(struct console *c, struct console_exec *e, const struct request *asked)
{
    e->channel.tell = true;
    if (asked->seq != e->taken || e->ends_input)
        return;
    e->ends_input = true;
    exec_write_stdin(c, e);
}

void exec_write_stdin(struct console *c, struct console_exec *e)
{
    (void)c;
    while (e->in >= 0 && e->n) {
        ssize_t put = write(e->in, e->data + e->at, e->n);
        if (put < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (put < 0) {
            close_input(e);
            break;
        }
        e->at += (size_t)put;
        e->n -= (size_t)put;
    }
    if (!e->n)
        e->channel.tell = true;            /* there is room again */
    if (e->in >= 0 && !e->n && e->ends_input) {
        if (e->is_tty && write(e->in, "\x04", 1) < 0 && errno == EAGAIN)
            return;
        close_input(e);
    }
}

/* Tells the exit after the last output, and gives the place free once the reader has it. */
void exec_settle(struct console *c, struct console_exec *e)
{
    if (e->has_exited && !e->is_ended && sources_are_dry(c, e->channel.number) &&
        channel_has_room(&e->channel)) {
        char text[32];
        bool by_signal = WIFSIGNALED(e->status);
        int n = snprintf(text, sizeof text, "%s %d", by_signal ? "signal" : "exit",
                         by_signal ? WTERMSIG(e->status) : WEXITSTATUS(e->status));
        sources_close(c, e->channel.number);   /* children it left behind write to nobody */
        close_input(e);
        channel_say(c, &e->channel, 'x', false, (const uint8_t *)text, (size_t)n);
        e->is_ended = true;
    }
    if (e->is_ended && e->channel.first == e->channel.next)
        e->used = false;
}

int console_exec_exited(struct console *c, uint32_t exec, int status)
{
    struct console_exec *e = exec_find(c, exec);
    if (!e)
        return -ENOENT;
    e->has_exited = true;
    e->status = status;
    exec_settle(c, e);
    return 0;
}
