/* What the reader asks: one line, checked and taken apart. Pure: no descriptor, no clock. */
#ifndef BULKHEAD_REQUEST_H
#define BULKHEAD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REQUEST_MAX 16384      /* bytes of a line from the reader */
#define REQUEST_WORDS 512
#define REQUEST_NONCE 16      /* characters: a reader's own word in its greeting */

enum verb { ASK_HELLO, ASK_ACK, ASK_AGAIN, ASK_EXEC, ASK_STDIN, ASK_EOF, ASK_SIZE, ASK_SIGNAL,
            ASK_CLOSE, ASK_BYE };

/* What init is asked to run beside the container's program, in its root and namespaces. */
struct exec_request {
    const char *const *argv;   /* ended by NULL, at least one */
    const char *const *env;    /* "NAME=value", ended by NULL: added to the container's */
    const char *cwd;           /* "" = the container's */
    const char *user;          /* "" = the container's; else as in spec.json */
    bool tty;
    unsigned rows, cols;       /* of the tty; 0 when unknown */
};

struct request {
    enum verb verb;
    uint32_t channel;
    uint64_t seq, credit;      /* ack, again; `seq` is the offset for stdin and eof, the count for signal */
    unsigned rows, cols;
    int signal;
    const char *data;          /* stdin; the nonce of hello */
    size_t size;
    struct exec_request exec;
};

struct request_room {
    char *words[REQUEST_WORDS];
    size_t sizes[REQUEST_WORDS];
    const char *argv[REQUEST_WORDS + 1];
    const char *env[REQUEST_WORDS + 1];
};

/* Of `line` (after the mark, without its end), which is changed and must have a byte to spare at its end.
 * Answers 0, -1 when the line is garbled or of another boot, -2 when it is whole but means nothing. */
int request_parse(struct request *asked, struct request_room *room, char *line, size_t n,
                  const char *boot);

#endif
