/* The window against the plainest model of it: an array of all that was ever put. Answers 0, or aborts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../channel.h"
#include "../frame.h"

#define MOST 20000
static struct { char text[FRAME_MAX]; size_t n; } put[MOST];

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
            abort(); \
        } \
    } while (0)

static uint64_t below(uint64_t n)
{
    return n ? (uint64_t)rand() % n : 0;
}

int main(int argc, char **argv)
{
    static char ring[4096];
    struct channel c;
    char out[FRAME_MAX];
    uint64_t acked = 0, dropped = 0, bytes = 0, send = 1;
    srand(argc > 1 ? (unsigned)atoi(argv[1]) : 1);
    channel_start(&c, 0, ring, sizeof ring, 0);
    for (int step = 0; step < 200000 && c.next < MOST; step++) {
        uint64_t first = c.first;
        switch (below(8)) {
        case 0: case 1: case 2:
            if (channel_has_room(&c)) {
                size_t n = 1 + below(FRAME_MAX);
                memset(put[c.next].text, (int)below(256), n);
                put[c.next].n = n;
                channel_put(&c, put[c.next].text, n, n, 0);
            }
            break;
        case 3: case 4: {
            size_t n = channel_take(&c, true, out, 0);
            bool may = send < c.next && send <= c.credit;
            CHECK(may == (n > 0));
            if (n) {
                CHECK(n == put[send].n && !memcmp(out, put[send].text, n));
                send++;
            }
            break;
        }
        case 5:
            acked = c.first - 1 + below(c.send - c.first + 1);
            channel_ack(&c, acked, 0);
            CHECK(c.first == acked + 1);
            break;
        case 6:
            send = c.first + below(c.next - c.first + 1);
            channel_again(&c, send);
            c.credit = send + below(8);
            break;
        case 7:
            if (c.first < c.next && below(4) == 0) {
                bytes += put[c.first].n;
                dropped++;
                channel_drop(&c);
                CHECK(c.first == first + 1 && c.dropped == bytes);
            }
            break;
        }
        if (send < c.first)
            send = c.first;
        CHECK(c.send == send && c.first <= c.send && c.send <= c.next && c.used <= c.size);
    }
    CHECK(dropped > 100 && c.next > 1000);
    return 0;
}
