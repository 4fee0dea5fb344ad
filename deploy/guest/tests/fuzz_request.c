/* libFuzzer: whatever the reader types, the parser stays within its line and answers one of its three answers.
 * The first byte says whether the check is made right, so that what stands behind it is reached. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../frame.h"
#include "../request.h"

static struct request_room room;
static const char boot[] = "00000000000000b0";

static void parse(const uint8_t *data, size_t n, bool is_checked)
{
    struct request asked;
    char *line = malloc(n + 10);            /* 9 for the check, 1 to spare: no byte more */
    size_t size = n;
    if (!line)
        abort();
    if (is_checked) {
        bool is_hello = n >= 5 && !memcmp(data, "hello", 5);
        snprintf(line, 10, "%08x ", (unsigned)frame_check(is_hello ? NULL : boot, data, n));
        memcpy(line + 9, data, n);
        size += 9;
    } else {
        memcpy(line, data, n);
    }
    int found = request_parse(&asked, &room, line, size, boot);
    if (found > 0 || found < -2)
        abort();
    if (!found && asked.verb == ASK_EXEC && (!asked.exec.argv[0] || !*asked.exec.argv[0]))
        abort();
    free(line);
}

static void escape(const uint8_t *data, size_t n)
{
    char text[FRAME_TEXT + 1];
    size_t used, length = frame_escape(text, FRAME_TEXT, data, n, &used);
    long back = frame_unescape(text, length);
    if (back != (long)used || memcmp(text, data, used))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1 || n > REQUEST_MAX - 16)
        return 0;
    parse(data + 1, n - 1, data[0] & 1);
    escape(data, n);
    return 0;
}
