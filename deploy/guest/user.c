#define _GNU_SOURCE
#include "user.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { FIELDS = 7, LONGEST = 32768 }; /* bytes of a line; a longer one is passed over */

struct entry {
    const char *field[FIELDS];
    size_t length[FIELDS];
    int count;
};

/* The line at `*text` cut at its colons, and `*text` moved on; false at the end. */
static bool next_entry(const char **text, struct entry *entry) {
    const char *line = *text;
    if (!line || !*line)
        return false;
    const char *end = strchrnul(line, '\n');
    *text = *end ? end + 1 : end;
    entry->count = 0;
    if (end - line > LONGEST || *line == '#')
        return true;
    while (entry->count < FIELDS) {
        const char *colon = memchr(line, ':', (size_t)(end - line));
        const char *stop = colon && entry->count < FIELDS - 1 ? colon : end;
        entry->field[entry->count] = line;
        entry->length[entry->count++] = (size_t)(stop - line);
        if (stop == end)
            break;
        line = stop + 1;
    }
    return true;
}

static bool same(const struct entry *entry, int field, const char *text, size_t length) {
    return entry->count > field && entry->length[field] == length && !memcmp(entry->field[field], text, length);
}

/* A number of 32 bits; the highest means "none" to the kernel. */
static bool id_of(const char *text, size_t length, unsigned *id) {
    unsigned long long value = 0;
    if (!length || length > 10)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *id = (unsigned)value;
    return value < 0xFFFFFFFFULL;
}

static bool field_id(const struct entry *entry, int field, unsigned *id) {
    return entry->count > field && id_of(entry->field[field], entry->length[field], id);
}

static void copy(char *to, size_t room, const struct entry *entry, int field) {
    size_t length = entry->count > field ? entry->length[field] : 0;
    if (length >= room)
        length = 0;
    if (length)
        memcpy(to, entry->field[field], length);
    to[length] = 0;
}

/* A name counts before a number: who calls himself 1000 is meant by "1000", as in Docker. */
static bool find_user(struct user *user, const char *name, size_t length, const char *passwd) {
    struct entry entry;
    unsigned uid, gid, wanted = 0;
    bool numeric = id_of(name, length, &wanted);
    for (int by_number = 0; by_number <= (numeric ? 1 : 0); by_number++)
        for (const char *rest = passwd; next_entry(&rest, &entry);)
            if (field_id(&entry, 2, &uid) && field_id(&entry, 3, &gid) &&
                (by_number ? uid == wanted : same(&entry, 0, name, length))) {
                user->uid = uid;
                user->gid = gid;
                copy(user->name, sizeof user->name, &entry, 0);
                copy(user->home, sizeof user->home, &entry, 5);
                return true;
            }
    user->uid = wanted;
    user->gid = 0;
    return numeric;
}

static bool find_group(const char *name, size_t length, const char *group, gid_t *gid) {
    struct entry entry;
    unsigned id;
    for (const char *rest = group; next_entry(&rest, &entry);)
        if (same(&entry, 0, name, length) && field_id(&entry, 2, &id)) {
            *gid = id;
            return true;
        }
    if (!id_of(name, length, &id))
        return false;
    *gid = id;
    return true;
}

static void join(struct user *user, gid_t gid) {
    for (int i = 0; i < user->group_count; i++)
        if (user->groups[i] == gid)
            return;
    if (user->group_count < USER_GROUPS)
        user->groups[user->group_count++] = gid;
}

static bool has_member(const struct entry *entry, const char *name) {
    size_t length = strlen(name);
    if (entry->count < 4 || !length)
        return false;
    const char *at = entry->field[3], *end = at + entry->length[3];
    while (at <= end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if ((size_t)(stop - at) == length && !memcmp(at, name, length))
            return true;
        at = stop + 1;
    }
    return false;
}

int user_find(struct user *user, const char *wanted, const char *const *more, const char *passwd,
              const char *group, char *why, size_t why_size) {
    const char *colon = strchr(wanted, ':');
    size_t length = colon ? (size_t)(colon - wanted) : strlen(wanted);
    struct entry entry;
    unsigned id;
    gid_t gid;
    memset(user, 0, sizeof *user);
    if (!find_user(user, length ? wanted : "0", length ? length : 1, passwd)) {
        snprintf(why, why_size, "user %.*s: not in the image's /etc/passwd", (int)length, wanted);
        return -1;
    }
    if (colon && colon[1]) {
        if (!find_group(colon + 1, strlen(colon + 1), group, &user->gid)) {
            snprintf(why, why_size, "group %s: not in the image's /etc/group", colon + 1);
            return -1;
        }
    } else {
        for (const char *rest = group; next_entry(&rest, &entry);)
            if (has_member(&entry, user->name) && field_id(&entry, 2, &id))
                join(user, id);
    }
    for (; more && *more; more++) {
        if (!find_group(*more, strlen(*more), group, &gid)) {
            snprintf(why, why_size, "group %s: not in the image's /etc/group", *more);
            return -1;
        }
        join(user, gid);
    }
    return 0;
}
