#include "spec.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    struct spec *spec;
    const struct json *json;
    char *why;
    size_t why_size;
    size_t used; /* of the arena */
};

__attribute__((format(printf, 2, 3))) static int wrong(struct reading *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->why, r->why_size, format, args);
    va_end(args);
    return -1;
}

static bool present(const struct json *json, int token) {
    return token >= 0 && !(json->tokens[token].type == JSMN_PRIMITIVE && json->text[json->tokens[token].start] == 'n');
}

/* For each element of the array in `key` of `object`: none when the key is missing or null. */
static int array(struct reading *r, int object, const char *key, int most, int *first, int *end) {
    int token = json_member(r->json, object, key);
    *first = *end = 0;
    if (!present(r->json, token))
        return 0;
    if (r->json->tokens[token].type != JSMN_ARRAY)
        return wrong(r, "%s: not a list", key);
    if (r->json->tokens[token].size > most)
        return wrong(r, "%s: more than %d", key, most);
    *first = token + 1;
    *end = json_next(r->json, token);
    return 0;
}

static int strings(struct reading *r, int object, const char *key, const char **to, int most) {
    int i, end;
    if (array(r, object, key, most, &i, &end))
        return -1;
    for (; i < end; i = json_next(r->json, i))
        if (!(*to++ = json_string(r->json, i)))
            return wrong(r, "%s: not a list of strings", key);
    *to = NULL;
    return 0;
}

static int text(struct reading *r, int object, const char *key, const char *usual, const char **to) {
    int token = json_member(r->json, object, key);
    *to = usual;
    if (present(r->json, token) && !(*to = json_string(r->json, token)))
        return wrong(r, "%s: not a string", key);
    return 0;
}

static int number(struct reading *r, int object, const char *key, int usual, int low, int high, int *to) {
    int token = json_member(r->json, object, key);
    long long value;
    *to = usual;
    if (!present(r->json, token))
        return 0;
    if (!json_integer(r->json, token, low, high, &value))
        return wrong(r, "%s: not a whole number from %d to %d", key, low, high);
    *to = (int)value;
    return 0;
}

static int truth(struct reading *r, int object, const char *key, bool *to) {
    int token = json_member(r->json, object, key);
    *to = false;
    if (present(r->json, token) && !json_boolean(r->json, token, to))
        return wrong(r, "%s: not true or false", key);
    return 0;
}

static int environment(struct reading *r) {
    const struct json *json = r->json;
    int token = json_member(json, 0, "env"), count = 0;
    if (!present(json, token))
        return 0;
    if (json->tokens[token].type != JSMN_OBJECT)
        return wrong(r, "env: not an object");
    int end = json_next(json, token);
    for (int i = token + 1; i < end; i = json_next(json, i)) {
        const char *name = json_string(json, i), *value = json_string(json, i + 1);
        if (!value)
            return wrong(r, "env: a value that is no string");
        if (!*name || strchr(name, '='))
            return wrong(r, "env: a name that is empty or has '='");
        size_t room = sizeof r->spec->arena - r->used;
        int length = snprintf(r->spec->arena + r->used, room, "%s=%s", name, value);
        if (count == SPEC_ENV || (size_t)length >= room)
            return wrong(r, "env: too much");
        r->spec->env[count++] = r->spec->arena + r->used;
        r->used += (size_t)length + 1;
    }
    return 0;
}

static int mac_of(const char *text, unsigned char mac[6]) {
    int used = 0;
    return strlen(text) == 17 &&
                   sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3],
                          &mac[4], &mac[5], &used) == 6 &&
                   used == 17
               ? 0
               : -1;
}

static int gateway(struct reading *r, const char *key, int family, const char *text) {
    unsigned char bytes[16];
    return !text || inet_pton(family, text, bytes) == 1 ? 0 : wrong(r, "%s: no such address", key);
}

static int nic(struct reading *r, int token, struct spec_nic *to) {
    const char *mac;
    if (r->json->tokens[token].type != JSMN_OBJECT)
        return wrong(r, "network: not a list of objects");
    if (number(r, token, "device", 0, 0, 255, &to->device) || text(r, token, "mac", NULL, &mac) ||
        number(r, token, "mtu", 0, 576, 65535, &to->mtu) ||
        strings(r, token, "addresses", to->addresses, SPEC_ADDRESSES) ||
        text(r, token, "gateway4", NULL, &to->gateway4) || text(r, token, "gateway6", NULL, &to->gateway6) ||
        gateway(r, "gateway4", AF_INET, to->gateway4) || gateway(r, "gateway6", AF_INET6, to->gateway6))
        return -1;
    to->has_mac = mac != NULL;
    if (mac && mac_of(mac, to->mac))
        return wrong(r, "mac: not six bytes with colons");
    for (int i = 0; to->addresses[i]; i++) {
        int family, prefix;
        unsigned char bytes[16];
        if (spec_address(to->addresses[i], &family, bytes, &prefix))
            return wrong(r, "addresses: not an address with the length of its prefix");
    }
    return 0;
}

static int hosts(struct reading *r) {
    const struct json *json = r->json;
    int token = json_member(json, 0, "hosts");
    if (!present(json, token))
        return 0;
    if (json->tokens[token].type != JSMN_OBJECT || json->tokens[token].size > SPEC_NAMES)
        return wrong(r, "hosts: not an object, or more than %d", SPEC_NAMES);
    int end = json_next(json, token);
    for (int i = token + 1; i < end; i = json_next(json, i)) {
        struct spec_host *host = &r->spec->host[r->spec->hosts++];
        host->name = json_string(json, i);
        if (json->tokens[i + 1].type != JSMN_ARRAY || json->tokens[i + 1].size > SPEC_HOST_IPS)
            return wrong(r, "hosts: not a list of at most %d addresses", SPEC_HOST_IPS);
        int ips = 0, last = json_next(json, i + 1);
        for (int j = i + 2; j < last; j = json_next(json, j))
            if (!(host->ips[ips++] = json_string(json, j)))
                return wrong(r, "hosts: an address that is no string");
    }
    return 0;
}

static int mount_of(struct reading *r, int token, struct spec_mount *to) {
    if (r->json->tokens[token].type != JSMN_OBJECT)
        return wrong(r, "mounts: not a list of objects");
    if (number(r, token, "device", -1, 3, 255, &to->device) || text(r, token, "path", "", &to->path) ||
        text(r, token, "fs", "ext4", &to->fs) || truth(r, token, "read_only", &to->read_only))
        return -1;
    if (to->device < 0)
        return wrong(r, "mounts: no device");
    if (to->path[0] != '/' || !to->path[1])
        return wrong(r, "mounts: path is not one below /");
    if (strcmp(to->fs, "ext4"))
        return wrong(r, "mounts: fs is not ext4");
    return 0;
}

static int rlimits(struct reading *r) {
    static const struct {
        const char *name;
        int resource;
    } known[] = {{"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
                 {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
                 {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
                 {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
                 {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
                 {"stack", RLIMIT_STACK}};
    const struct json *json = r->json;
    int token = json_member(json, 0, "rlimits");
    if (!present(json, token))
        return 0;
    if (json->tokens[token].type != JSMN_OBJECT)
        return wrong(r, "rlimits: not an object");
    int end = json_next(json, token);
    for (int i = token + 1; i < end; i = json_next(json, i)) {
        const char *name = json_string(json, i);
        size_t k = 0;
        long long soft, hard;
        while (k < sizeof known / sizeof *known && strcmp(known[k].name, name))
            k++;
        if (k == sizeof known / sizeof *known || r->spec->rlimits == SPEC_RLIMITS)
            return wrong(r, "rlimits: no such limit");
        /* -1 is "unlimited", as in Docker. */
        if (json->tokens[i + 1].type != JSMN_ARRAY || json->tokens[i + 1].size != 2 ||
            !json_integer(json, i + 2, -1, INT64_MAX, &soft) ||
            !json_integer(json, i + 3, -1, INT64_MAX, &hard) ||
            (hard >= 0 && (soft < 0 || soft > hard)))
            return wrong(r, "rlimits: not [soft, hard] with soft at most hard");
        struct spec_rlimit *limit = &r->spec->rlimit[r->spec->rlimits++];
        limit->resource = known[k].resource;
        limit->limit.rlim_cur = soft < 0 ? RLIM_INFINITY : (rlim_t)soft;
        limit->limit.rlim_max = hard < 0 ? RLIM_INFINITY : (rlim_t)hard;
    }
    return 0;
}

static int what_to_run(struct reading *r) {
    struct spec *spec = r->spec;
    const char *args[SPEC_ARGS + 1], *signal_name;
    if (text(r, 0, "hostname", "", &spec->hostname) || text(r, 0, "cwd", "/", &spec->cwd) ||
        text(r, 0, "user", "", &spec->user) || text(r, 0, "stop_signal", "SIGTERM", &signal_name) ||
        number(r, 0, "grace_seconds", 10, 0, 3600, &spec->grace_seconds) || truth(r, 0, "tty", &spec->tty) ||
        strings(r, 0, "groups", spec->groups, SPEC_GROUPS) || strings(r, 0, "argv", args, SPEC_ARGS) ||
        environment(r))
        return -1;
    if (!args[0] || !*args[0])
        return wrong(r, "argv: nothing to run");
    for (int i = 0; args[i]; i++)
        spec->argv[i] = r->json->text + (args[i] - r->json->text);
    if (strlen(spec->hostname) > 64)
        return wrong(r, "hostname: longer than 64 bytes");
    if (*spec->cwd != '/')
        spec->cwd = *spec->cwd ? spec->cwd : "/";
    spec->stop_signal = spec_signal(*signal_name ? signal_name : "SIGTERM");
    return spec->stop_signal < 0 ? wrong(r, "stop_signal: no such signal") : 0;
}

static int its_surroundings(struct reading *r) {
    struct spec *spec = r->spec;
    int i, end, resolv = json_member(r->json, 0, "resolv");
    if (array(r, 0, "network", SPEC_NICS, &i, &end))
        return -1;
    for (; i < end; i = json_next(r->json, i))
        if (nic(r, i, &spec->nic[spec->nics++]))
            return -1;
    if (array(r, 0, "mounts", SPEC_MOUNTS, &i, &end))
        return -1;
    for (; i < end; i = json_next(r->json, i))
        if (mount_of(r, i, &spec->mount[spec->mounts++]))
            return -1;
    if (present(r->json, resolv) && (strings(r, resolv, "nameservers", spec->nameservers, SPEC_RESOLV) ||
                                     strings(r, resolv, "search", spec->search, SPEC_RESOLV)))
        return -1;
    return hosts(r) || rlimits(r) ? -1 : 0;
}

int spec_parse(struct spec *spec, char *text, size_t size, char *why, size_t why_size) {
    struct reading r = {.spec = spec, .json = &spec->json, .why = why, .why_size = why_size};
    const char *broken;
    int version;
    memset(spec, 0, sizeof *spec);
    if (size > SPEC_BYTES)
        return wrong(&r, "longer than %d bytes", SPEC_BYTES);
    if (json_read(&spec->json, text, size, &broken))
        return wrong(&r, "%s", broken);
    if (number(&r, 0, "version", 0, 0, INT32_MAX, &version))
        return -1;
    if (version != 1)
        return wrong(&r, "version %d, and this guest knows 1", version);
    return what_to_run(&r) || its_surroundings(&r) ? -1 : 0;
}

int spec_signal(const char *name) {
    static const struct {
        const char *name;
        int number;
    } known[] = {{"HUP", SIGHUP},       {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ILL", SIGILL},
                 {"TRAP", SIGTRAP},     {"ABRT", SIGABRT}, {"BUS", SIGBUS},   {"FPE", SIGFPE},
                 {"KILL", SIGKILL},     {"USR1", SIGUSR1}, {"SEGV", SIGSEGV}, {"USR2", SIGUSR2},
                 {"PIPE", SIGPIPE},     {"ALRM", SIGALRM}, {"TERM", SIGTERM}, {"STKFLT", SIGSTKFLT},
                 {"CHLD", SIGCHLD},     {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},
                 {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU}, {"URG", SIGURG},   {"XCPU", SIGXCPU},
                 {"XFSZ", SIGXFSZ},     {"VTALRM", SIGVTALRM}, {"PROF", SIGPROF}, {"WINCH", SIGWINCH},
                 {"IO", SIGIO},         {"POLL", SIGIO},   {"PWR", SIGPWR},   {"SYS", SIGSYS}};
    int length = 0, value = 0;
    if (sscanf(name, "%2d%n", &value, &length) == 1 && !name[length])
        return value > 0 && value <= 64 ? value : -1;
    if (!strncmp(name, "SIG", 3))
        name += 3;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name))
            return known[i].number;
    /* As the kernel counts them: the C library keeps the first two or three to itself. */
    if (!strncmp(name, "RTMIN", 5) && (!name[5] || (name[5] == '+' && sscanf(name + 6, "%2d%n", &value, &length) == 1 &&
                                                    !name[6 + length] && value >= 0 && value <= 30)))
        return 34 + value;
    return -1;
}

int spec_address(const char *text, int *family, unsigned char bytes[16], int *prefix) {
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    int length = 0;
    if (!slash || (size_t)(slash - text) >= sizeof address || slash[1] < '0' || slash[1] > '9' ||
        sscanf(slash + 1, "%3d%n", prefix, &length) != 1 || slash[1 + length])
        return -1;
    memcpy(address, text, (size_t)(slash - text));
    address[slash - text] = 0;
    *family = strchr(address, ':') ? AF_INET6 : AF_INET;
    if (*prefix > (*family == AF_INET6 ? 128 : 32))
        return -1;
    return inet_pton(*family, address, bytes) == 1 ? 0 : -1;
}
