#define _GNU_SOURCE
#include "net.h"

#include "files.h"
#include "log.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct request {
    struct nlmsghdr header;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
        char room[256];
    } body;
};

static void begin(struct request *request, unsigned short type, unsigned flags, size_t body) {
    memset(request, 0, sizeof *request);
    request->header.nlmsg_type = type;
    request->header.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | NLM_F_ACK | flags);
    request->header.nlmsg_len = (unsigned)NLMSG_LENGTH(body);
}

static void add(struct request *request, unsigned short type, const void *data, size_t size) {
    struct rtattr attribute = {.rta_len = (unsigned short)RTA_LENGTH(size), .rta_type = type};
    char *end = (char *)request + NLMSG_ALIGN(request->header.nlmsg_len);
    memcpy(end, &attribute, sizeof attribute);
    memcpy(end + RTA_LENGTH(0), data, size);
    request->header.nlmsg_len = (unsigned)(NLMSG_ALIGN(request->header.nlmsg_len) + RTA_ALIGN(attribute.rta_len));
}

/* Send it and read the kernel's word on it: 0, or -1 with errno. */
static int ask(int socket, struct request *request) {
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char room[1024];
    } reply;
    if (send(socket, request, request->header.nlmsg_len, 0) < 0)
        return -1;
    ssize_t size = recv(socket, &reply, sizeof reply, 0);
    if (size < 0)
        return -1;
    if ((size_t)size < sizeof reply.header + sizeof(int) || reply.header.nlmsg_type != NLMSG_ERROR) {
        errno = EPROTO;
        return -1;
    }
    errno = -reply.error.error;
    return errno ? -1 : 0;
}

static int set_state(int socket, unsigned index, unsigned state, int mtu) {
    struct request request;
    begin(&request, RTM_NEWLINK, 0, sizeof request.body.link);
    request.body.link.ifi_index = (int)index;
    request.body.link.ifi_flags = state;
    request.body.link.ifi_change = IFF_UP;
    if (mtu)
        add(&request, IFLA_MTU, &mtu, sizeof mtu);
    return ask(socket, &request);
}

static int set_address(int socket, unsigned index, const char *text) {
    struct request request;
    unsigned char bytes[16];
    int family, prefix;
    unsigned flags = IFA_F_NODAD; /* the address is ours by the ledger; nobody else is asked */
    if (spec_address(text, &family, bytes, &prefix)) {
        errno = EINVAL;
        return -1;
    }
    size_t size = family == AF_INET ? 4 : 16;
    begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof request.body.address);
    request.body.address.ifa_family = (unsigned char)family;
    request.body.address.ifa_prefixlen = (unsigned char)prefix;
    request.body.address.ifa_index = index;
    add(&request, IFA_LOCAL, bytes, size);
    add(&request, IFA_ADDRESS, bytes, size);
    if (family == AF_INET6)
        add(&request, IFA_FLAGS, &flags, sizeof flags);
    else if (prefix < 31) {
        unsigned char broadcast[4];
        for (int i = 0; i < 4; i++) {
            int bits = prefix - 8 * i;
            unsigned host = bits >= 8 ? 0 : bits <= 0 ? 0xFF : 0xFFu >> bits;
            broadcast[i] = (unsigned char)(bytes[i] | host);
        }
        add(&request, IFA_BROADCAST, broadcast, 4);
    }
    return ask(socket, &request);
}

static int set_gateway(int socket, unsigned index, int family, const char *text) {
    struct request request;
    unsigned char bytes[16];
    if (inet_pton(family, text, bytes) != 1) {
        errno = EINVAL;
        return -1;
    }
    begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof request.body.route);
    request.body.route.rtm_family = (unsigned char)family;
    request.body.route.rtm_table = RT_TABLE_MAIN;
    request.body.route.rtm_protocol = RTPROT_STATIC;
    request.body.route.rtm_scope = RT_SCOPE_UNIVERSE;
    request.body.route.rtm_type = RTN_UNICAST;
    request.body.route.rtm_flags = RTNH_F_ONLINK; /* a gateway may lie outside of the address's prefix */
    add(&request, RTA_GATEWAY, bytes, family == AF_INET ? 4 : 16);
    add(&request, RTA_OIF, &index, sizeof index);
    return ask(socket, &request);
}

/* The interface with this MAC or, without one, the kernel's own name for this number; 0 when not there. */
static unsigned find(const struct spec_nic *nic, char name[IF_NAMESIZE]) {
    char path[80], text[32], mac[32];
    unsigned index = 0;
    if (!nic->has_mac) {
        snprintf(name, IF_NAMESIZE, "eth%d", nic->device);
        return if_nametoindex(name);
    }
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x\n", nic->mac[0], nic->mac[1], nic->mac[2], nic->mac[3],
             nic->mac[4], nic->mac[5]);
    DIR *all = opendir("/sys/class/net");
    for (struct dirent *one; all && !index && (one = readdir(all));) {
        snprintf(path, sizeof path, "/sys/class/net/%.15s/address", one->d_name);
        if (one->d_name[0] == '.' || read_file(path, text, sizeof text) < 0 || strcmp(text, mac))
            continue;
        snprintf(name, IF_NAMESIZE, "%.15s", one->d_name);
        index = if_nametoindex(name);
    }
    if (all)
        closedir(all);
    return index;
}

/* Called eth<device>, as the container expects, if that name is free; its own name will do otherwise. */
static void rename_to(int socket, unsigned index, const char *name, int device) {
    struct request request;
    char wanted[IF_NAMESIZE];
    snprintf(wanted, sizeof wanted, "eth%d", device);
    if (!strcmp(name, wanted) || if_nametoindex(wanted))
        return;
    set_state(socket, index, 0, 0); /* one that is up keeps its name */
    begin(&request, RTM_NEWLINK, 0, sizeof request.body.link);
    request.body.link.ifi_index = (int)index;
    add(&request, IFLA_IFNAME, wanted, strlen(wanted) + 1);
    if (ask(socket, &request))
        failed("naming %s %s", name, wanted);
}

/* Neighbours shall not give a container addresses or routes. An interface has its own word on that, taken from the
 * default when the driver made it. */
static void ignore_advertisements(unsigned index) {
    char name[IF_NAMESIZE], path[80];
    if (!if_indextoname(index, name))
        return;
    snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
    if (write_file(path, "0") && errno != ENOENT) /* a kernel without IPv6 */
        failed("%s", path);
}

static int configure(int socket, const struct spec_nic *nic) {
    char name[IF_NAMESIZE];
    unsigned index;
    int64_t deadline = now_ms() + NET_WAIT_MS;
    while (!(index = find(nic, name))) {
        if (now_ms() > deadline) {
            say("network device %d is not there", nic->device);
            return -1;
        }
        sleep_ms(2);
    }
    rename_to(socket, index, name, nic->device);
    ignore_advertisements(index);
    if (set_state(socket, index, IFF_UP, nic->mtu))
        return failed("network device %d", nic->device);
    for (int i = 0; nic->addresses[i]; i++)
        if (set_address(socket, index, nic->addresses[i]))
            return failed("address %s", nic->addresses[i]);
    if (nic->gateway4 && set_gateway(socket, index, AF_INET, nic->gateway4))
        return failed("gateway %s", nic->gateway4);
    if (nic->gateway6 && set_gateway(socket, index, AF_INET6, nic->gateway6))
        return failed("gateway %s", nic->gateway6);
    return 0;
}

static int open_netlink(void) {
    struct timeval patience = {.tv_sec = 5};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (sock < 0 || connect(sock, (struct sockaddr *)&kernel, sizeof kernel) ||
        setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience))
        return failed("netlink");
    return sock;
}

int net_prepare(void) {
    int sock = open_netlink();
    if (sock < 0)
        return -1;
    int status = 0;
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *one = all; one && one->if_index && !status; one++) {
        ignore_advertisements(one->if_index);
        status = set_state(sock, one->if_index, IFF_UP, 0) ? failed("%s", one->if_name) : 0;
    }
    if_freenameindex(all);
    close(sock);
    return status;
}

int net_configure(const struct spec *spec) {
    int sock = open_netlink();
    if (sock < 0)
        return -1;
    int status = set_state(sock, if_nametoindex("lo"), IFF_UP, 0) ? failed("lo") : 0;
    for (int i = 0; i < spec->nics && !status; i++)
        status = configure(sock, &spec->nic[i]);
    close(sock);
    return status;
}
