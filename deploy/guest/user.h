/* Who runs: the four forms of the image's User, by the image's own /etc/passwd and /etc/group. */
#ifndef USER_H
#define USER_H

#include <stddef.h>
#include <sys/types.h>

enum { USER_GROUPS = 128, USER_FILE_BYTES = 1024 * 1024 };

struct user {
    uid_t uid;
    gid_t gid;
    gid_t groups[USER_GROUPS]; /* supplementary */
    int group_count;
    char home[256]; /* "" when passwd does not say */
    char name[64];  /* "" likewise */
};

/* Find "", "user", "uid", "user:group" (either as number or name) in these texts of passwd and group (NULL: the
 * image has none), and give it the groups named in `more` (a list that ends with NULL) besides. As Docker does:
 * nothing said is root; a number need not be known, a name must; with a group given, no others are looked up.
 * On failure -1, and `why` says which name is not there. */
int user_find(struct user *user, const char *wanted, const char *const *more, const char *passwd,
              const char *group, char *why, size_t why_size);

#endif
