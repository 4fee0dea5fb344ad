/* libFuzzer: spec.json, passwd and group, and xenstore's answers may be anything. The first byte says which. */
#include "../spec.h"
#include "../user.h"
#include "../xenstore.h"

#include <stdlib.h>
#include <string.h>

static struct spec spec;
static struct xenstore xenstore;

static void on_change(void *context, const char *path) {
    (void)context;
    if (!*path || strlen(path) > XENSTORE_PAYLOAD)
        abort();
}

static void on_value(void *context, uint32_t request, const char *value) {
    (void)context;
    (void)request;
    if (value && strlen(value) > XENSTORE_PAYLOAD)
        abort();
}

static void fuzz_spec(char *text, size_t size) {
    char why[160] = "";
    if (spec_parse(&spec, text, size, why, sizeof why) ? !*why : !spec.argv[0] || spec.stop_signal < 1)
        abort();
}

/* "wanted NUL passwd NUL group" */
static void fuzz_user(char *text, size_t size) {
    struct user user;
    char why[160], *passwd = memchr(text, 0, size), *group;
    text[size] = 0;
    if (!passwd)
        return;
    passwd++;
    group = memchr(passwd, 0, (size_t)(text + size - passwd));
    const char *more[] = {"media", NULL};
    if (!user_find(&user, text, more, passwd, group ? group + 1 : NULL, why, sizeof why) &&
        (user.uid == (uid_t)-1 || user.gid == (gid_t)-1 || user.group_count > USER_GROUPS))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    char *exact = malloc(size);
    if (!exact)
        abort();
    memcpy(exact, data + 1, size - 1);
    if (data[0] == 'x') {
        xenstore = (struct xenstore){.fd = -1, .on_change = on_change, .on_value = on_value};
        for (size_t half = size / 2, at = 0; at < size - 1; at += half + 1)
            if (xenstore_feed(&xenstore, data + 1 + at, size - 1 - at < half + 1 ? size - 1 - at : half + 1))
                break;
    } else if (data[0] == 'u') {
        fuzz_user(exact, size - 1);
    } else {
        fuzz_spec(exact, size - 1);
    }
    free(exact);
    return 0;
}
