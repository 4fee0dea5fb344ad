#include "request.h"

#include <string.h>

#include "frame.h"

enum { GARBLED = -1, BAD = -2 };

static const struct {
    const char *name;
    enum verb verb;
    size_t words;              /* the verb included; for exec the least */
} verbs[] = {
    {"hello", ASK_HELLO, 3}, {"ack", ASK_ACK, 4},    {"again", ASK_AGAIN, 4},   {"exec", ASK_EXEC, 9},
    {"stdin", ASK_STDIN, 4}, {"eof", ASK_EOF, 3},    {"size", ASK_SIZE, 4},     {"signal", ASK_SIGNAL, 4},
    {"close", ASK_CLOSE, 2}, {"bye", ASK_BYE, 1},
};

static int number(const char *word, uint64_t most, uint64_t *value)
{
    uint64_t sum = 0;
    if (!*word || strlen(word) > 18)
        return BAD;
    for (; *word; word++) {
        if (*word < '0' || *word > '9')
            return BAD;
        sum = sum * 10 + (uint64_t)(*word - '0');
    }
    *value = sum;
    return sum <= most ? 0 : BAD;
}

static int check_of(const char *line, size_t n, uint32_t *check)
{
    if (n < 10 || line[8] != ' ')
        return GARBLED;
    *check = 0;
    for (int i = 0; i < 8; i++) {
        char c = line[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return GARBLED;
        *check = *check << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return 0;
}

/* Cuts the body at its spaces and unescapes each word; answers how many, or BAD. */
static int cut(struct request_room *room, char *body, size_t n)
{
    int count = 0;
    char *end = body + n;
    for (char *word = body; word <= end; count++) {
        if (count == REQUEST_WORDS)
            return BAD;
        char *space = memchr(word, ' ', (size_t)(end - word));
        char *next = space ? space : end;
        long size = frame_unescape(word, (size_t)(next - word));
        if (size < 0)
            return BAD;
        room->words[count] = word;
        room->sizes[count] = (size_t)size;
        word = next + 1;
    }
    return count;
}

static int small(const char *word, unsigned most, unsigned *value)
{
    uint64_t wide;
    if (number(word, most, &wide))
        return BAD;
    *value = (unsigned)wide;
    return 0;
}

/* exec CHANNEL t|- ROWS COLS USER CWD ARGC ARG… NAME=VALUE… */
static int take_exec(struct request *asked, struct request_room *room, int count)
{
    char **word = room->words;
    unsigned argc;
    for (int i = 0; i < count; i++)
        if (strlen(word[i]) != room->sizes[i])
            return BAD;                         /* no NUL in what becomes a C string */
    if (strcmp(word[2], "t") && strcmp(word[2], "-"))
        return BAD;
    if (small(word[3], 65535, &asked->exec.rows) || small(word[4], 65535, &asked->exec.cols) ||
        small(word[7], REQUEST_WORDS, &argc) || argc < 1 || (int)argc > count - 8 || !*word[8])
        return BAD;
    int envc = 0;
    for (unsigned i = 0; i < argc; i++)
        room->argv[i] = word[8 + i];
    room->argv[argc] = NULL;
    for (int i = 8 + (int)argc; i < count; i++) {
        if (word[i][0] == '=' || !strchr(word[i], '='))
            return BAD;
        room->env[envc++] = word[i];
    }
    room->env[envc] = NULL;
    asked->exec.tty = word[2][0] == 't';
    asked->exec.user = word[5];
    asked->exec.cwd = word[6];
    asked->exec.argv = room->argv;
    asked->exec.env = room->env;
    return 0;
}

static int take_nonce(struct request *asked, const char *word)
{
    size_t n = strspn(word, "0123456789abcdefghijklmnopqrstuvwxyz");
    asked->data = word;
    return n && n <= REQUEST_NONCE && !word[n] ? 0 : BAD;
}

static int take(struct request *asked, struct request_room *room, int count)
{
    char **word = room->words;
    uint64_t channel = 0;
    unsigned signal = 0;
    if (asked->verb == ASK_HELLO)
        return strcmp(word[1], "1") ? BAD : take_nonce(asked, word[2]);
    if (asked->verb == ASK_BYE)
        return 0;
    if (number(word[1], UINT32_MAX, &channel))
        return BAD;
    asked->channel = (uint32_t)channel;
    switch (asked->verb) {
    case ASK_ACK:
    case ASK_AGAIN:
        return number(word[2], UINT64_MAX, &asked->seq) || number(word[3], UINT64_MAX, &asked->credit)
                   ? BAD : 0;
    case ASK_EXEC:
        return channel ? take_exec(asked, room, count) : BAD;
    case ASK_STDIN:
        asked->data = word[3];
        asked->size = room->sizes[3];
        return number(word[2], UINT64_MAX, &asked->seq);
    case ASK_EOF:
        return number(word[2], UINT64_MAX, &asked->seq);
    case ASK_SIZE:
        return small(word[2], 65535, &asked->rows) || small(word[3], 65535, &asked->cols) ? BAD : 0;
    case ASK_SIGNAL:
        if (number(word[2], UINT64_MAX, &asked->seq) || small(word[3], 64, &signal) || !signal)
            return BAD;
        asked->signal = (int)signal;
        return 0;
    default:
        return 0;
    }
}

int request_parse(struct request *asked, struct request_room *room, char *line, size_t n,
                  const char *boot)
{
    uint32_t check;
    memset(asked, 0, sizeof *asked);
    if (check_of(line, n, &check))
        return GARBLED;
    char *body = line + 9;
    n -= 9;
    bool is_hello = n >= 5 && !memcmp(body, "hello", 5);
    if (frame_check(is_hello ? NULL : boot, body, n) != check)
        return GARBLED;
    int count = cut(room, body, n);
    if (count < 1)
        return BAD;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verbs[i].name, room->words[0]))
            continue;
        asked->verb = verbs[i].verb;
        bool fits = asked->verb == ASK_EXEC ? (size_t)count >= verbs[i].words
                                            : (size_t)count == verbs[i].words;
        return fits ? take(asked, room, count) : BAD;
    }
    return BAD;
}
