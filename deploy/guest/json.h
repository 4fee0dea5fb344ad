/* A strict view of one JSON document over jsmn's tokens: bounded, in place, no allocation. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>

#ifndef JSON_IMPLEMENTATION
#define JSMN_HEADER
#endif
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

enum { JSON_TOKENS = 16384 };

struct json {
    char *text; /* decoded in place */
    int count;
    jsmntok_t tokens[JSON_TOKENS];
};

/* Read `size` bytes of JSON, which must be one object; `text` must hold one byte more, and is changed.
 * Keys and strings come out as UTF-8 that ends with NUL. On failure -1, and `*why` says what is wrong. */
int json_read(struct json *json, char *text, size_t size, const char **why);

/* The token after this one and all that it holds. */
int json_next(const struct json *json, int token);

/* The value of `key` in this object, or -1. Of two equal keys the last counts, as in most readers. */
int json_member(const struct json *json, int object, const char *key);

/* The string, or NULL when the token is none. */
const char *json_string(const struct json *json, int token);

/* Is it a whole number from `low` to `high`? Then it is in `*number`. */
bool json_integer(const struct json *json, int token, long long low, long long high, long long *number);

/* Is it true or false? Then it is in `*yes`. */
bool json_boolean(const struct json *json, int token, bool *yes);

#endif
