/* The supervisor's end of a gateway's channel, played by a test: it says what the test says, keeps what it hears, and
 * starts, watches and reaps nothing. Left out: processes, restarts, deadlines, other peers. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "wire/wire.h"

struct fake_supervisor {
    struct wire_channel *channel;
    bool said_hello, said_ready, peer_is_gone;
    uint64_t pongs;
    uint64_t generation, lowest; /* of the last routes_used */
    uint64_t routes_used_count;
    uint64_t generations[64]; /* as they were told, the first 64 */
    uint64_t appended_count, appended_head, queries_head; /* of the last log_appended of each set */
    uint64_t pair_used_count, pair_epoch, pair_lowest; /* of the last pair_used */
};

/* Makes the pair; *ret_descriptor is the gateway's end. */
void fake_supervisor_open(struct fake_supervisor *supervisor, int *ret_descriptor);
void fake_supervisor_close(struct fake_supervisor *supervisor);
/* Takes in what has come. */
void fake_supervisor_hear(struct fake_supervisor *supervisor);
