/* The kernel's word that devices come and go, so that nobody has to look again and again. */
#ifndef UEVENTS_H
#define UEVENTS_H

/* A descriptor that is readable once something came or went after this call; -1 with errno. */
int uevents_open(void);

/* Take what came so far: it says that something did, not what, and is looked for by name. */
void uevents_drain(int fd);

#endif
