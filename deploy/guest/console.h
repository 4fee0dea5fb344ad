/* The guest's half of the text console protocol (docs/console-protocol.md).
 *
 * One `struct console` (large: make it static), one poll loop, no threads, no allocation:
 *     n = console_poll_fds(c, fds, max);  poll(fds, n, console_timeout(c));  console_handle(c, fds, n);
 * All calls answer 0, or a negative errno. */
#ifndef BULKHEAD_CONSOLE_H
#define BULKHEAD_CONSOLE_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "channel.h"
#include "frame.h"
#include "request.h"

enum { STREAM_STDOUT = 1, STREAM_STDERR = 2 };

#define CONSOLE_EXECS 8
#define CONSOLE_SOURCES (2 + 2 * CONSOLE_EXECS)
#define CONSOLE_POLL_FDS (1 + CONSOLE_SOURCES + CONSOLE_EXECS)
#define CONSOLE_WINDOW (128 * 1024)       /* bytes kept for resending, of the container's output */
#define CONSOLE_EXEC_WINDOW (32 * 1024)
#define CONSOLE_READ 4096
#define CONSOLE_STDIN 4096
#define CONSOLE_REPLIES 8

/* What on_exec answers. The console owns the descriptors from then on, makes them non-blocking and closes
 * them. With a tty `in` and `out` are two descriptors of its master side (dup), and `err` is -1. */
struct exec_fds {
    int in, out, err;          /* -1 = there is none */
};

struct console_ops {
    /* Start it. 0, or a negative errno that the reader is told. */
    int (*on_exec)(void *ctx, uint32_t exec, const struct exec_request *asked, struct exec_fds *fds);
    void (*on_resize)(void *ctx, uint32_t exec, unsigned rows, unsigned cols);
    void (*on_signal)(void *ctx, uint32_t exec, int signal);
    /* The reader wants it no more, or has been away for too long: end it (SIGHUP, then SIGKILL). Report its
     * exit as ever. */
    void (*on_close)(void *ctx, uint32_t exec);
};

struct console_source {
    bool used;
    int fd;
    uint32_t exec;             /* 0 = the container's */
    char kind;                 /* 'o' or 'e' */
    size_t at, n;              /* of `data`: what is not framed yet */
    uint8_t data[CONSOLE_READ];
};

struct console_exec {
    bool used, has_exited, is_ended, is_tty, ends_input;
    struct channel channel;
    int in, status;
    uint64_t signals;          /* how many were sent to it */
    uint64_t taken;            /* bytes of stdin taken since it began */
    size_t at, n;              /* of `data`: what is not written yet */
    uint8_t data[CONSOLE_STDIN];
    char ring[CONSOLE_EXEC_WINDOW];
};

struct console {
    int fd;
    char boot[BOOT_DIGITS + 1];
    char nonce[REQUEST_NONCE + 1];        /* of the greeting that is answered; "" = nobody's */
    const struct console_ops *ops;
    void *ctx;
    bool is_attached, tell_hello, is_overlong, in_line;
    uint64_t heard_at, wrote_at;          /* ms: the reader's last request; when the tty took something */
    uint64_t greet_at, greet_pause;       /* ms: the next greeting while nobody answers */
    uint64_t garbled;                     /* requests whose check was wrong */
    uint32_t next_exec;
    unsigned turn;
    struct channel output;
    char ring[CONSOLE_WINDOW];
    struct console_exec execs[CONSOLE_EXECS];
    struct console_source sources[CONSOLE_SOURCES];
    struct { uint32_t channel; char text[64]; } replies[CONSOLE_REPLIES];
    unsigned replies_at, replies_n;
    size_t out_at, out_n;
    char out[FRAME_MAX];
    size_t line_n;
    char line[REQUEST_MAX + 1];
    struct request_room room;
};

/* `fd` is the tty, non-blocking; it is put into raw mode. `boot_id` differs with each boot. */
int console_open(struct console *, int fd, uint64_t boot_id, const struct console_ops *, void *ctx);

/* What to wait for; answers how many, at most CONSOLE_POLL_FDS. Sources that are held back are left out. */
int console_poll_fds(struct console *, struct pollfd *, int max);

/* Milliseconds after which to call console_handle though nothing happened. */
int console_timeout(const struct console *);

void console_handle(struct console *, const struct pollfd *, int n);

/* The read end of the container's stdout or stderr. The console closes it at its end. */
int console_add_source(struct console *, uint32_t stream, int fd);

/* A line of init's own, for people. */
int console_note(struct console *, const char *text);

/* `status` as of waitpid. What the exec wrote before is told first. */
int console_exec_exited(struct console *, uint32_t exec, int status);

/* Before power-off: reads what the container wrote last, and writes until all is sent (and, with a reader,
 * acknowledged), for `ms` milliseconds at most. */
void console_drain(struct console *, int ms);

#endif
