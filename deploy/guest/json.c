#define JSON_IMPLEMENTATION
#define JSMN_STATIC
#include "json.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int hex4(const char *s, unsigned *value) {
    *value = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            return -1;
        *value = *value << 4 | digit;
    }
    return 0;
}

static char *put_utf8(char *to, unsigned c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *to++ = (char)(0xE0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    } else {
        *to++ = (char)(0xF0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3F));
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    }
    return to;
}

/* The character of an escape \uXXXX at `s` (after the u), or of two that make a pair; 0 when it is none. */
static unsigned escaped(const char *s, const char *end, int *used) {
    unsigned high, low;
    *used = 4;
    if (end - s < 4 || hex4(s, &high))
        return 0;
    if (high < 0xD800 || high > 0xDFFF)
        return high;
    if (high > 0xDBFF || end - s < 10 || s[4] != '\\' || s[5] != 'u' || hex4(s + 6, &low) ||
        low < 0xDC00 || low > 0xDFFF)
        return 0;
    *used = 10;
    return 0x10000 + ((high - 0xD800) << 10 | (low - 0xDC00));
}

/* Unescape in place; what comes out is never longer. A string of the guest's world holds no NUL. */
static int unescape(char *text, jsmntok_t *token) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char *from = text + token->start, *end = text + token->end, *to = from;
    while (from < end) {
        if ((unsigned char)*from < 0x20)
            return -1;
        if (*from != '\\') {
            *to++ = *from++;
            continue;
        }
        if (end - from < 2)
            return -1;
        const char *name = from[1] ? strchr(names, from[1]) : NULL;
        if (name) {
            *to++ = values[name - names];
            from += 2;
        } else if (from[1] == 'u') {
            int used;
            unsigned c = escaped(from + 2, end, &used);
            if (!c)
                return -1;
            to = put_utf8(to, c);
            from += 2 + used;
        } else {
            return -1;
        }
    }
    *to = 0;
    token->end = (int)(to - text);
    return 0;
}

/* jsmn takes some documents that are none: keys that are no strings, keys without a value. */
static int check(struct json *json, const char **why) {
    for (int i = 0; i < json->count; i++) {
        jsmntok_t *token = &json->tokens[i];
        bool key = token->parent >= 0 && json->tokens[token->parent].type == JSMN_OBJECT;
        if (key && (token->type != JSMN_STRING || token->size != 1)) {
            *why = "a key without a value";
            return -1;
        }
        if (!key && token->type != JSMN_OBJECT && token->type != JSMN_ARRAY && token->size != 0) {
            *why = "a value that has a value";
            return -1;
        }
        if (token->type == JSMN_STRING && unescape(json->text, token)) {
            *why = "a string with a bad escape, a control character or NUL";
            return -1;
        }
    }
    return 0;
}

int json_read(struct json *json, char *text, size_t size, const char **why) {
    jsmn_parser parser;
    json->text = text;
    if (size > INT32_MAX / 2) {
        *why = "too long";
        return -1;
    }
    jsmn_init(&parser);
    json->count = jsmn_parse(&parser, text, size, json->tokens, JSON_TOKENS);
    if (json->count == JSMN_ERROR_NOMEM) {
        *why = "too many values";
        return -1;
    }
    if (json->count < 1 || json->tokens[0].type != JSMN_OBJECT) {
        *why = json->count == JSMN_ERROR_PART ? "it ends too early" : "not one JSON object";
        return -1;
    }
    if (json_next(json, 0) != json->count) {
        *why = "something after the object";
        return -1;
    }
    return check(json, why);
}

int json_next(const struct json *json, int token) {
    int next = token + 1;
    /* Parents come before what they hold; whoever's parent is before `token` is outside of it. */
    while (next < json->count && json->tokens[next].parent >= token)
        next++;
    return next;
}

int json_member(const struct json *json, int object, const char *key) {
    int found = -1;
    if (json->tokens[object].type != JSMN_OBJECT)
        return -1;
    int end = json_next(json, object);
    for (int i = object + 1; i < end; i = json_next(json, i))
        if (!strcmp(json->text + json->tokens[i].start, key))
            found = i + 1;
    return found;
}

const char *json_string(const struct json *json, int token) {
    if (token < 0 || json->tokens[token].type != JSMN_STRING)
        return NULL;
    return json->text + json->tokens[token].start;
}

static size_t primitive(const struct json *json, int token, const char **start) {
    if (token < 0 || json->tokens[token].type != JSMN_PRIMITIVE)
        return 0;
    *start = json->text + json->tokens[token].start;
    return (size_t)(json->tokens[token].end - json->tokens[token].start);
}

bool json_integer(const struct json *json, int token, long long low, long long high, long long *number) {
    const char *start;
    char digits[24], *end;
    size_t length = primitive(json, token, &start);
    if (!length || length >= sizeof digits)
        return false;
    memcpy(digits, start, length);
    digits[length] = 0;
    errno = 0;
    long long value = strtoll(digits, &end, 10);
    if (errno || end == digits || *end || value < low || value > high)
        return false;
    *number = value;
    return true;
}

bool json_boolean(const struct json *json, int token, bool *yes) {
    const char *start;
    size_t length = primitive(json, token, &start);
    bool is_true = length == 4 && !memcmp(start, "true", 4);
    if (!is_true && !(length == 5 && !memcmp(start, "false", 5)))
        return false;
    *yes = is_true;
    return true;
}
