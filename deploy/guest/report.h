/* What the host learns of this guest through xenstore, where there is one (docs/guest.md lists the paths). */
#ifndef REPORT_H
#define REPORT_H

#include "spec.h"
#include "xenstore.h"

/* How the container ended, as "code N", "signal N" or "failed WHY", into `to`. */
void report_describe(int status, char *to, size_t room);

/* How the run before this one ended is of the past: a toolstack gives every boot what the last one left there. */
void report_begin(struct xenstore *xenstore);

/* That this guest waits for its root disk, and what it can do meanwhile. Again after a move to another host. */
void report_blank(struct xenstore *xenstore);

/* That it waits no more. */
void report_taken(struct xenstore *xenstore);

/* Addresses, and that it is up; `all` with what this guest can do, which one that was blank has said before. Again,
 * and all, after a move to another host. Each word costs the host: a start says nothing twice. */
void report_ready(struct xenstore *xenstore, const struct spec *spec, bool all);

/* How it ended; waits until xenstore has it, a second at most. */
void report_exit(struct xenstore *xenstore, const char *how);

#endif
