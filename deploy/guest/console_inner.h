/* Between the console's own files. */
#ifndef BULKHEAD_CONSOLE_INNER_H
#define BULKHEAD_CONSOLE_INNER_H

#include "console.h"

uint64_t console_now(void);    /* ms, monotonic */
int console_set_nonblocking(int fd);

/* asks.c */
void asks_read(struct console *);

/* execs.c */
struct console_exec *exec_find(struct console *, uint32_t number);
void exec_open(struct console *, const struct request *);
void exec_take_stdin(struct console *, struct console_exec *, const struct request *);
void exec_take_eof(struct console *, struct console_exec *, const struct request *);
void exec_write_stdin(struct console *, struct console_exec *);
void exec_settle(struct console *, struct console_exec *);
void console_reply(struct console *, uint32_t channel, const char *verb, const char *text);

/* sources.c */
struct channel *channel_of(struct console *, uint32_t exec);
struct console_source *source_add(struct console *, uint32_t exec, char kind, int fd);
bool source_wants_read(struct console *, const struct console_source *);
bool source_read(struct console_source *);    /* false: nothing was there */
bool source_frame(struct console *, struct console_source *);  /* false: it had to stop for want of room */
bool sources_are_dry(struct console *, uint32_t exec);
void sources_close(struct console *, uint32_t exec);
bool channel_make_room(struct console *, struct channel *);
void channel_say(struct console *, struct channel *, char kind, bool goes_on, const uint8_t *, size_t);

#endif
