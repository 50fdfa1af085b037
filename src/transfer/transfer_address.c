/* Which addresses may be connected to, in whatever form they are written: the table of those that are nobody's server
 * (RFC 6890), and of those where clouds hand out credentials to whoever asks. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "base/memory.h"
#include "transfer/transfer-internal.h"

/* address/bits, in network order. */
static const struct {
    uint8_t address[4];
    unsigned bits;
} refused_v4[] = {
    {{0, 0, 0, 0}, 8}, /* this host on this network: connects to the loopback */
    {{169, 254, 0, 0}, 16}, /* link-local; metadata of most clouds */
    {{100, 100, 100, 200}, 32}, /* metadata: Alibaba */
    {{168, 63, 129, 16}, 32}, /* metadata: Azure */
    {{192, 0, 0, 192}, 32}, /* metadata: Oracle */
    {{224, 0, 0, 0}, 4}, /* multicast */
    {{240, 0, 0, 0}, 4}, /* reserved, broadcast */
};

static const struct {
    uint8_t address[16];
    unsigned bits;
} refused_v6[] = {
    {{0}, 128}, /* unspecified */
    {{0xfe, 0x80}, 10}, /* link-local */
    {{0xfe, 0xc0}, 10}, /* site-local, which was taken back (RFC 3879) */
    {{0xff}, 8}, /* multicast */
    {{0xfd, 0x00, 0x0e, 0xc2}, 32}, /* metadata: AWS, fd00:ec2::254 and its neighbours */
    {{0xfd, 0x20, 0x00, 0xce}, 32}, /* metadata: Google, fd20:ce::254 */
    {{0xfd, 0x00, 0x00, 0xc1}, 32}, /* metadata: Oracle, fd00:c1::a9fe:a9fe */
};

/* Where an IPv4 address lies inside an IPv6 one. */
static const struct {
    uint8_t address[16];
    unsigned bits, offset;
    uint8_t inverted; /* Teredo */
} carriers[] = {
    {{0}, 96, 12, 0}, /* IPv4-compatible (RFC 4291) */
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 12, 0}, /* IPv4-mapped */
    {{0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 12, 0}, /* IPv4-translated (RFC 7915) */
    {{0x00, 0x64, 0xff, 0x9b}, 96, 12, 0}, /* NAT64 (RFC 6052) */
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, 12, 0}, /* local NAT64 (RFC 8215), by prefixes of 96 bits */
    {{0x20, 0x02}, 16, 2, 0}, /* 6to4 */
    {{0x20, 0x01}, 32, 12, 0xff}, /* Teredo */
};

static bool is_within(const uint8_t *address, const uint8_t *network, unsigned bits) {
    if (memcmp(address, network, bits / 8)) return false;
    unsigned rest = bits % 8;
    return !rest || !((address[bits / 8] ^ network[bits / 8]) >> (8 - rest));
}

static bool v4_is_allowed(const uint8_t *address) {
    for (size_t i = 0; i < ARRAY_SIZE(refused_v4); i++)
        if (is_within(address, refused_v4[i].address, refused_v4[i].bits)) return false;
    return true;
}

static bool v6_is_allowed(const uint8_t *address) {
    static const uint8_t loopback[16] = {[15] = 1};
    static const uint8_t isatap[4] = {0x00, 0x00, 0x5e, 0xfe}; /* RFC 5214; the first byte may have bit 0x02 */
    if (!memcmp(address, loopback, sizeof loopback)) return true;
    for (size_t i = 0; i < ARRAY_SIZE(refused_v6); i++)
        if (is_within(address, refused_v6[i].address, refused_v6[i].bits)) return false;
    for (size_t i = 0; i < ARRAY_SIZE(carriers); i++) {
        if (!is_within(address, carriers[i].address, carriers[i].bits)) continue;
        uint8_t inner[4];
        for (size_t byte = 0; byte < 4; byte++) inner[byte] = address[carriers[i].offset + byte] ^ carriers[i].inverted;
        if (!v4_is_allowed(inner)) return false;
    }
    uint8_t interface[4] = {address[8] & (uint8_t)~0x02, address[9], address[10], address[11]};
    return memcmp(interface, isatap, sizeof isatap) || v4_is_allowed(address + 12);
}

bool transfer_address_is_allowed(const struct sockaddr *address) {
    if (address->sa_family == AF_INET)
        return v4_is_allowed((const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr);
    if (address->sa_family == AF_INET6) return v6_is_allowed(((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr);
    return false;
}
