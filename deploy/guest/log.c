#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 512 };

static void (*other)(const char *line);

void say_to(void (*sink)(const char *line)) { other = sink; }

/* Names come from images: nothing but printable characters reaches the console. */
static void put(char line[LINE]) {
    size_t length = strlen(line);
    if (length > LINE - 2)
        length = LINE - 2;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
            line[i] = '?';
    line[length] = 0;
    if (other) {
        other(line);
        return;
    }
    line[length] = '\n';
    if (write(2, line, length + 1) < 0)
        return; /* nobody is left to be told */
}

void say(const char *format, ...) {
    char line[LINE] = "bulkhead: ";
    size_t start = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + start, LINE - 1 - start, format, args);
    va_end(args);
    put(line);
}

int failed(const char *format, ...) {
    char line[LINE] = "bulkhead: ";
    size_t start = strlen(line);
    int reason = errno;
    va_list args;
    va_start(args, format);
    vsnprintf(line + start, LINE - 1 - start, format, args);
    va_end(args);
    start = strlen(line);
    snprintf(line + start, LINE - 1 - start, ": %s", strerror(reason));
    put(line);
    errno = reason;
    return -1;
}
