#include "frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint32_t frame_crc(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *at = data;
    crc = ~crc;
    while (n--) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

uint32_t frame_check(const char *boot, const void *body, size_t n)
{
    uint32_t crc = boot ? frame_crc(0, boot, BOOT_DIGITS) : 0;
    return frame_crc(crc, body, n);
}

/* Length of the printable UTF-8 character at `s`, or 0. C1 controls are not printable. */
static size_t printable(const uint8_t *s, size_t n)
{
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f && s[0] != '\\';
    size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || length > n)
        return 0;
    uint32_t point = s[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (s[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0xa0, 0x800, 0x10000};
    if (point < least[length] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return 0;
    return length;
}

static char short_escape(uint8_t byte)
{
    switch (byte) {
    case '\\': return '\\';
    case '\t': return 't';
    case '\r': return 'r';
    case '\n': return 'n';
    case 0x1b: return 'e';
    default: return 0;
    }
}

size_t frame_escape(char *dst, size_t room, const uint8_t *src, size_t n, size_t *used)
{
    static const char digits[] = "0123456789abcdef";
    size_t out = 0, in = 0;
    while (in < n) {
        size_t length = printable(src + in, n - in);
        char letter = length ? 0 : short_escape(src[in]);
        size_t need = length ? length : letter ? 2 : 4;
        if (need > room - out)
            break;
        if (length) {
            memcpy(dst + out, src + in, length);
        } else {
            dst[out] = '\\';
            dst[out + 1] = letter ? letter : 'x';
            if (!letter) {
                dst[out + 2] = digits[src[in] >> 4];
                dst[out + 3] = digits[src[in] & 15];
            }
        }
        out += need;
        in += length ? length : 1;
    }
    *used = in;
    return out;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long frame_unescape(char *text, size_t n)
{
    size_t out = 0;
    for (size_t in = 0; in < n; in++) {
        if (text[in] != '\\') {
            text[out++] = text[in];
            continue;
        }
        if (++in >= n)
            return -1;
        switch (text[in]) {
        case '\\': text[out++] = '\\'; break;
        case 't': text[out++] = '\t'; break;
        case 'r': text[out++] = '\r'; break;
        case 'n': text[out++] = '\n'; break;
        case 'e': text[out++] = 0x1b; break;
        case 's': text[out++] = ' '; break;
        case 'z': break;                        /* a word that is empty */
        case 'x': {
            int high = in + 2 < n ? hex_digit(text[in + 1]) : -1;
            int low = in + 2 < n ? hex_digit(text[in + 2]) : -1;
            if (high < 0 || low < 0)
                return -1;
            text[out++] = (char)(high << 4 | low);
            in += 2;
            break;
        }
        default: return -1;
        }
    }
    text[out] = 0;
    return (long)out;
}

size_t frame_encode(char *out, const char *boot, const char *token, uint64_t seq, uint64_t ms,
                    const char *text, size_t n)
{
    char body[FRAME_MAX];
    int head = snprintf(body, FRAME_HEAD, "%s %" PRIu64 " %" PRIu64 ".%03u ", token, seq,
                        ms / 1000 % 10000000000u, (unsigned)(ms % 1000));
    if (n > FRAME_TEXT)
        n = FRAME_TEXT;
    memcpy(body + head, text, n);
    n += (size_t)head;
    int mark = snprintf(out, FRAME_HEAD, "%c%08" PRIx32 " ", FRAME_MARK, frame_check(boot, body, n));
    memcpy(out + mark, body, n);
    memcpy(out + mark + n, "\r\n", 2);
    return (size_t)mark + n + 2;
}
