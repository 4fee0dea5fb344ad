/* The network as spec.json has it: addresses and routes by rtnetlink, nothing asked of anybody. */
#ifndef NET_H
#define NET_H

#include "spec.h"

enum { NET_WAIT_MS = 10000 };

/* All devices that are there up, without addresses: needs no spec. -1 after saying why. */
int net_prepare(void);

/* The loopback device up, then each NIC; -1 after saying what would not be set. */
int net_configure(const struct spec *spec);

#endif
