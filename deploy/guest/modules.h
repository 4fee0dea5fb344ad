/* Kernel modules: what `make guest` put beside init, by what they are for. */
#ifndef MODULES_H
#define MODULES_H

/* Load the modules listed in /modules/NAME.list, in its order; those that are there already are passed over.
 * Without such a list (a kernel that has all built in) nothing is done. -1 when one would not load. */
int modules_load(const char *name);

#endif
