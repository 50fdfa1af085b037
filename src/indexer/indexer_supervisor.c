/* The channel to the supervisor: who is up, what was written, what the controller asks. Everything is taken in on the
 * loop's thread; what other threads have to say goes through an outbox, because a channel belongs to one thread. A
 * channel that closes is the supervisor's end, and so ours (P2). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"
#include "slipway_version.h"

static void on_poll(uv_poll_t *poll, int status, int events);

/* ---- saying ---------------------------------------------------------------- */

static void end(struct indexer *indexer, int status) {
    if (indexer->has_ended) return;
    indexer->has_ended = true;
    uv_poll_stop(&indexer->channel);
    indexer->config.on_end(indexer->config.context, status);
}

static void lose(struct indexer *indexer, struct error *error) {
    _cleanup_free_ char *text = error ? error_text(error) : NULL;
    log_write(LOG_ERROR, "the supervisor is gone; ending", "cause", text, NULL);
    error_free(error);
    end(indexer, EXIT_FAILURE);
}

static void watch(struct indexer *indexer) {
    int events = UV_READABLE | UV_DISCONNECT | (wire_channel_wants_write(indexer->supervisor) ? UV_WRITABLE : 0);
    if (!indexer->has_ended) uv_poll_start(&indexer->channel, events, on_poll);
}

void indexer_say(struct indexer *indexer, const struct wire_message *message) {
    struct indexer_outgoing *outgoing = mem_new(struct indexer_outgoing);
    if (wire_encode(message, &outgoing->bytes, &outgoing->size, NULL) < 0) {
        free(outgoing); /* longer than any message may be; whoever waits for it asks again */
        return;
    }
    *indexer->outbox_end = outgoing;
    indexer->outbox_end = &outgoing->next;
    uv_async_send(&indexer->woken);
}

static struct indexer_outgoing *take_outbox(struct indexer *indexer, int *ret_fatal_status) {
    pthread_mutex_lock(&indexer->lock);
    struct indexer_outgoing *outbox = TAKE(indexer->outbox);
    indexer->outbox_end = &indexer->outbox;
    *ret_fatal_status = indexer->fatal_status;
    pthread_mutex_unlock(&indexer->lock);
    return outbox;
}

static void on_woken(uv_async_t *async) {
    struct indexer *indexer = async->data;
    int fatal_status;
    struct error *error = NULL;
    for (struct indexer_outgoing *outgoing = take_outbox(indexer, &fatal_status), *next; outgoing; outgoing = next) {
        next = outgoing->next;
        _cleanup_wire_message_ struct wire_message message = {0};
        bool can_say = !indexer->has_ended && !error;
        if (can_say && wire_decode(outgoing->bytes, outgoing->size, &message, NULL) >= 0)
            wire_send(indexer->supervisor, &message, &error);
        free(outgoing->bytes);
        free(outgoing);
    }
    if (error)
        lose(indexer, error);
    else if (fatal_status)
        end(indexer, fatal_status);
    else
        watch(indexer);
}

/* ---- hearing --------------------------------------------------------------- */

/* What a gateway that has just come must know. */
static void tell_all(struct indexer *indexer) {
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        collection->wants_heads = true;
        if (collection->phase != COLLECTION_OPEN || collection->deleted) continue;
        indexer_tell(indexer, pair_changed, .collection_id = collection->id, .epoch = (uint64_t)collection->epoch);
        indexer_tell_indexed(collection, true);
    }
}

static void settle_all(struct indexer *indexer) {
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        indexer_pair_settle(collection);
    }
}

static void gateway_up(struct indexer *indexer, uint64_t id) {
    struct indexer_gateway *gateway = NULL;
    HASH_FIND(hh, indexer->gateways, &id, sizeof id, gateway);
    if (!gateway) {
        gateway = mem_new(struct indexer_gateway);
        gateway->id = id;
        HASH_ADD(hh, indexer->gateways, id, sizeof gateway->id, gateway);
    }
    tell_all(indexer);
    indexer_wake(indexer);
}

/* What it had appended last it may not have told. */
static void gateway_down(struct indexer *indexer, uint64_t id) {
    struct indexer_gateway *gateway = NULL;
    HASH_FIND(hh, indexer->gateways, &id, sizeof id, gateway);
    if (!gateway) return;
    HASH_DEL(indexer->gateways, gateway);
    free(gateway);
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        collection->wants_heads = true;
    }
    settle_all(indexer);
    indexer_wake(indexer);
}

/* From now on announcements are passed on; those before are made up for by a look. */
static void take_snapshot_end(struct indexer *indexer) {
    struct indexer_collection *collection, *next;
    indexer->snapshot_ended = true;
    HASH_ITER(hh, indexer->collections, collection, next) {
        collection->wants_heads = true;
    }
    settle_all(indexer);
    indexer_wake(indexer);
}

static void log_appended(struct indexer *indexer, const struct wire_log_appended *appended) {
    struct indexer_collection *collection = indexer_collection_find(indexer, appended->collection_id);
    if (!collection) return; /* it will be opened, and its heads read */
    for (int set = 0; set < INDEXER_SETS; set++)
        if (text_equal(appended->set, collection_set_name(set))) indexer_note_head(collection, set, appended->head);
}

static void act(struct indexer *indexer, const struct wire_message *message) {
    switch (message->type) {
    case WIRE_ping: indexer_tell(indexer, pong, .sequence = message->ping.sequence); break;
    case WIRE_replica_up: indexer_replica_up(indexer, &message->replica_up); break;
    case WIRE_replica_down:
        indexer_replica_down(indexer, message->replica_down.replica_id, message->replica_down.incarnation);
        break;
    case WIRE_snapshot_end: take_snapshot_end(indexer); break;
    case WIRE_gateway_up: gateway_up(indexer, message->gateway_up.gateway_id); break;
    case WIRE_gateway_down: gateway_down(indexer, message->gateway_down.gateway_id); break;
    case WIRE_hold_switches: indexer_hold_switches(indexer, message->hold_switches.hold); break;
    case WIRE_log_appended: log_appended(indexer, &message->log_appended); break;
    case WIRE_pair_used: {
        struct indexer_collection *collection = indexer_collection_find(indexer, message->pair_used.collection_id);
        if (collection) indexer_pair_used(collection, &message->pair_used);
        break;
    }
    case WIRE_indexer_ask: indexer_ask_take(indexer, &message->indexer_ask); break;
    default: break; /* for others, or from a newer version */
    }
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct indexer *indexer = poll->data;
    struct error *error = NULL;
    if (status < 0 || (events & UV_WRITABLE && wire_flush(indexer->supervisor, &error))) {
        lose(indexer, error);
        return;
    }
    while (!indexer->has_ended) {
        _cleanup_wire_message_ struct wire_message message = {0};
        int received = wire_receive(indexer->supervisor, &message, &error);
        if (received < 0) {
            lose(indexer, error);
            return;
        }
        if (!received) break;
        pthread_mutex_lock(&indexer->lock);
        act(indexer, &message);
        pthread_mutex_unlock(&indexer->lock);
    }
    watch(indexer);
}

/* ---- life ------------------------------------------------------------------- */

void indexer_supervisor_open(struct indexer *indexer) {
    indexer->outbox_end = &indexer->outbox;
    indexer->supervisor = wire_channel_new(indexer->config.supervisor);
    uv_poll_init(indexer->config.loop, &indexer->channel, wire_channel_descriptor(indexer->supervisor));
    uv_async_init(indexer->config.loop, &indexer->woken, on_woken);
    indexer->channel.data = indexer->woken.data = indexer;
    wire_say(indexer->supervisor, hello, .role = "indexer", .version = SLIPWAY_VERSION, .pid = (uint64_t)getpid());
    watch(indexer);
}

/* What is in the outbox is still said: the last answers are. */
void indexer_supervisor_close(struct indexer *indexer) {
    on_woken(&indexer->woken);
    indexer->has_ended = true;
    uv_close((uv_handle_t *)&indexer->channel, NULL);
    uv_close((uv_handle_t *)&indexer->woken, NULL);
}
