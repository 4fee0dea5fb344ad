/* Lines of the text console protocol (docs/console-protocol.md): both directions use
 *     RS crc SP body end-of-line
 * where crc is CRC-32 over the boot id's 16 hex digits (but for "hello") and the body. */
#ifndef BULKHEAD_FRAME_H
#define BULKHEAD_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_MARK 0x1e        /* RS: in no payload, since controls are escaped */
#define FRAME_MAX 512          /* bytes of a line from the guest, mark and CRLF included */
#define FRAME_HEAD 64          /* what of it the head needs at most */
#define FRAME_TEXT (FRAME_MAX - FRAME_HEAD)
#define BOOT_DIGITS 16

uint32_t frame_crc(uint32_t crc, const void *data, size_t n);

/* Of `boot` (BOOT_DIGITS characters, or NULL) and the body after it. */
uint32_t frame_check(const char *boot, const void *body, size_t n);

/* Escapes as much of `src` as fits into `room`; `used` says how much that was. Answers bytes written. */
size_t frame_escape(char *dst, size_t room, const uint8_t *src, size_t n, size_t *used);

/* In place, ended by NUL. Answers the length, or -1 when an escape is none. */
long frame_unescape(char *text, size_t n);

/* A whole line of at most FRAME_MAX bytes. `text` is escaped already, at most FRAME_TEXT bytes.
 * `token` is kind, "+" when the line goes on, and the channel's number unless it is 0. */
size_t frame_encode(char *out, const char *boot, const char *token, uint64_t seq, uint64_t ms,
                    const char *text, size_t n);

#endif
