/* From what the reader typed to what is done about it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "console_inner.h"

static void on_hello(struct console *c, const struct request *asked)
{
    snprintf(c->nonce, sizeof c->nonce, "%s", asked->data);
    /* From now on the reader says, channel by channel, what it wants. */
    c->tell_hello = true;
    c->output.tell = true;
    c->output.credit = 0;
    for (int i = 0; i < CONSOLE_EXECS; i++) {
        c->execs[i].channel.tell = c->execs[i].used;
        c->execs[i].channel.credit = 0;
    }
}

static void on_ack(struct channel *channel, const struct request *asked)
{
    if (asked->verb == ASK_ACK) {
        channel_ack(channel, asked->seq, console_now());
    } else {
        channel_again(channel, asked->seq);
        channel->tell = channel->tell || asked->seq < channel->first;
    }
    channel->credit = asked->credit;
}

static void on_exec_request(struct console *c, struct console_exec *e, const struct request *asked)
{
    switch (asked->verb) {
    case ASK_STDIN: exec_take_stdin(c, e, asked); break;
    case ASK_EOF: exec_take_eof(c, e, asked); break;
    case ASK_SIZE:
        if (c->ops->on_resize)
            c->ops->on_resize(c->ctx, asked->channel, asked->rows, asked->cols);
        break;
    case ASK_SIGNAL:
        e->channel.tell = true;
        if (asked->seq != e->signals + 1)
            break;             /* asked for again: it had it */
        e->signals++;
        if (c->ops->on_signal && !e->has_exited)
            c->ops->on_signal(c->ctx, asked->channel, asked->signal);
        break;
    case ASK_CLOSE:
        if (c->ops->on_close && !e->has_exited)
            c->ops->on_close(c->ctx, asked->channel);
        break;
    default: break;
    }
}

static void obey(struct console *c, const struct request *asked)
{
    c->heard_at = console_now();
    c->is_attached = asked->verb != ASK_BYE;
    if (asked->verb == ASK_BYE)
        return;
    if (asked->verb == ASK_HELLO) {
        on_hello(c, asked);
        return;
    }
    if (asked->verb == ASK_EXEC) {
        exec_open(c, asked);
        return;
    }
    struct channel *channel = channel_of(c, asked->channel);
    if (!channel)
        console_reply(c, asked->channel, "channel", "gone");
    else if (asked->verb == ASK_ACK || asked->verb == ASK_AGAIN)
        on_ack(channel, asked);
    else if (asked->channel == 0)
        console_reply(c, 0, "channel", "not-exec");
    else
        on_exec_request(c, exec_find(c, asked->channel), asked);
}

static void end_line(struct console *c)
{
    struct request asked;
    bool is_asked = c->in_line && !c->is_overlong;
    c->in_line = c->is_overlong = false;
    if (!is_asked)
        return;                /* somebody typed: not for us */
    if (c->line_n && c->line[c->line_n - 1] == '\r')
        c->line_n--;
    int found = request_parse(&asked, &c->room, c->line, c->line_n, c->boot);
    if (found == -1)
        c->garbled++;
    else if (found)
        console_reply(c, 0, "request", "bad");
    else
        obey(c, &asked);
}

static void take_byte(struct console *c, char byte)
{
    if (byte == FRAME_MARK) {  /* a new one, whatever became of the last */
        c->garbled += c->in_line;
        c->in_line = true;
        c->is_overlong = false;
        c->line_n = 0;
    } else if (byte == '\n') {
        end_line(c);
    } else if (c->in_line && c->line_n < REQUEST_MAX) {
        c->line[c->line_n++] = byte;
    } else {
        c->is_overlong = c->in_line;
    }
}

void asks_read(struct console *c)
{
    char data[2048];
    for (int turns = 0; turns < 4; turns++) {
        ssize_t got = read(c->fd, data, sizeof data);
        if (got <= 0)
            return;            /* nothing more, or nobody there: the tty comes back with its reader */
        for (ssize_t i = 0; i < got; i++)
            take_byte(c, data[i]);
    }
}
