/* The guest's parsers on what standard input holds, for pytest: prints what they made of it.
 *     parse_check spec | user WANTED PASSWD GROUP [MORE…] | xenstore PIECE */
#include "../json.h"
#include "../spec.h"
#include "../user.h"
#include "../xenstore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct spec spec;
static struct xenstore xenstore = {.fd = -1};

/* Exactly as long as allowed, so that the sanitizer sees a byte too many. */
static char *input(size_t *size) {
    static char all[SPEC_BYTES * 2];
    ssize_t some;
    *size = 0;
    while ((some = read(0, all + *size, sizeof all - *size)) > 0)
        *size += (size_t)some;
    char *exact = malloc(*size + 1);
    if (!exact)
        abort();
    memcpy(exact, all, *size);
    return exact;
}

static void list(const char *name, const char *const *values) {
    for (; *values; values++)
        printf("%s=%s\n", name, *values);
}

static int show_spec(void) {
    size_t size;
    char why[160], *text = input(&size);
    if (spec_parse(&spec, text, size, why, sizeof why)) {
        printf("wrong: %s\n", why);
        free(text);
        return 1;
    }
    printf("hostname=%s\ncwd=%s\nuser=%s\nstop=%d\ngrace=%d\ntty=%d\n", spec.hostname, spec.cwd, spec.user,
           spec.stop_signal, spec.grace_seconds, spec.tty);
    list("argv", (const char *const *)spec.argv);
    list("env", (const char *const *)spec.env);
    list("group", spec.groups);
    for (int i = 0; i < spec.nics; i++) {
        const struct spec_nic *nic = &spec.nic[i];
        printf("nic=%d %02x%s mtu %d via %s %s\n", nic->device, nic->mac[5], nic->has_mac ? "" : " (none)", nic->mtu,
               nic->gateway4 ? nic->gateway4 : "-", nic->gateway6 ? nic->gateway6 : "-");
        list("address", nic->addresses);
    }
    list("nameserver", spec.nameservers);
    list("search", spec.search);
    for (int i = 0; i < spec.hosts; i++)
        list(spec.host[i].name, spec.host[i].ips);
    for (int i = 0; i < spec.mounts; i++)
        printf("mount=%d %s %s %d\n", spec.mount[i].device, spec.mount[i].path, spec.mount[i].fs,
               spec.mount[i].read_only);
    for (int i = 0; i < spec.rlimits; i++)
        printf("rlimit=%d %lld %lld\n", spec.rlimit[i].resource, (long long)spec.rlimit[i].limit.rlim_cur,
               (long long)spec.rlimit[i].limit.rlim_max);
    free(text);
    return 0;
}

static int show_user(char **args) {
    struct user user;
    char why[160];
    if (user_find(&user, args[0], (const char *const *)args + 3, args[1], args[2], why, sizeof why)) {
        printf("wrong: %s\n", why);
        return 1;
    }
    printf("%u %u [", user.uid, user.gid);
    for (int i = 0; i < user.group_count; i++)
        printf("%s%u", i ? " " : "", user.groups[i]);
    printf("] %s\n", user.home);
    return 0;
}

static void on_change(void *context, const char *path) {
    (void)context;
    printf("changed %s\n", path);
}

static void on_value(void *context, uint32_t request, const char *value) {
    (void)context;
    printf("value %u %s\n", request, value ? value : "(none)");
}

static int show_xenstore(size_t piece) {
    size_t size;
    char *bytes = input(&size);
    xenstore.on_change = on_change;
    xenstore.on_value = on_value;
    int status = 0;
    for (size_t at = 0; at < size && !status; at += piece)
        status = xenstore_feed(&xenstore, (unsigned char *)bytes + at, size - at < piece ? size - at : piece);
    if (status)
        printf("wrong\n");
    free(bytes);
    return status ? 1 : 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "spec"))
        return show_spec();
    if (argc >= 5 && !strcmp(argv[1], "user"))
        return show_user(argv + 2);
    if (argc == 3 && !strcmp(argv[1], "xenstore"))
        return show_xenstore(strtoul(argv[2], NULL, 10));
    return 2;
}
