/* The real indexer in a process of its own over a scratch state folder with one collection; the test plays supervisor,
 * gateway (it appends, and says which pair it uses) and replicas. The process can be stopped at any pause point and
 * killed there. Everything ends the test when it fails; whatever waits, waits on a condition, at most 20 s. */
#pragma once
#include <sys/types.h>

#include "base/clock.h"
#include "base/settings.h"
#include "collection/collection.h"
#include "fakes/fake_batch_encoder.h"
#include "wire/wire.h"

#define BED_COLLECTION "11111111-1111-4111-8111-111111111111"
#define BED_BLUE "aaaaaaaa-0000-4000-8000-000000000001"
#define BED_BLUE_QUERIES "aaaaaaaa-0000-4000-8000-000000000002"
#define BED_GREEN "bbbbbbbb-0000-4000-8000-000000000001"
#define BED_GREEN_QUERIES "bbbbbbbb-0000-4000-8000-000000000002"
#define BED_DIGEST "digest-blue"
#define BED_DIGEST_GREEN "digest-green"
#define BED_DIMENSION 8
#define BED_DIMENSION_GREEN 6
#define BED_REPLICAS 4
#define BED_ANSWERS 32

struct bed_pause; /* shared with the process */

struct bed_answer {
    uint64_t request;
    char *error_json, *body_json;
};

struct indexer_bed {
    uv_loop_t loop;
    uv_timer_t tick;
    char *folder;
    struct settings *settings;
    struct collection *collection; /* as the gateway has it open */
    bool keep_queries;
    struct fake_batch_encoder replicas[BED_REPLICAS];

    pid_t pid; /* 0: none runs */
    struct wire_channel *channel;
    struct bed_pause *pause;
    bool is_silent; /* appends are not told */

    bool said_ready;
    bool holds_switches; /* switches_held, since they were last asked for */
    uint64_t indexed; /* of log_indexed, of this process */
    uint64_t epoch; /* of pair_changed */
    uint64_t event_id; /* of collection_events */
    bool answers_pairs; /* pair_changed is answered with pair_used at once */
    uint64_t gateway_id; /* 0: none is up */
    char state[3][40]; /* by index_progress: blue, green, another */
    uint64_t progress_done, progress_total;
    struct bed_answer answers[BED_ANSWERS];
    size_t answer_count;
    uint64_t last_request;
};

/* A state folder with the collection; nothing runs yet. Settings may be changed before indexer_bed_start(). */
struct indexer_bed *indexer_bed_new(bool keep_queries);
void indexer_bed_free(struct indexer_bed *bed); /* kills what runs */
void indexer_bed_set(struct indexer_bed *bed, const char *name, const char *value);
/* Starts it and hands it the snapshot; waits until it is ready, unless a pause point is armed. */
void indexer_bed_start(struct indexer_bed *bed);
void indexer_bed_kill(struct indexer_bed *bed); /* SIGKILL, reaped */
void indexer_bed_stop(struct indexer_bed *bed); /* SIGTERM; it must exit 0 */
int indexer_bed_exit_status(struct indexer_bed *bed); /* waits for an end that it comes to by itself */

/* Turns the loop until the condition holds. */
void indexer_bed_turn(struct indexer_bed *bed);
#define indexer_bed_until(bed, condition)                                                                              \
    do {                                                                                                               \
        uint64_t until_ms_ = clock_monotonic_ms() + 20000;                                                             \
        while (!(condition)) {                                                                                         \
            if (clock_monotonic_ms() > until_ms_) fail_msg("waited in vain for: %s", #condition);                      \
            indexer_bed_turn(bed);                                                                                     \
        }                                                                                                              \
    } while (0)

/* It stops where the name says, when it comes there. */
void indexer_bed_arm(struct indexer_bed *bed, const char *point);
bool indexer_bed_has_paused(const struct indexer_bed *bed);
void indexer_bed_go_on(struct indexer_bed *bed);

/* ---- replicas and the gateway ---- */

/* Number 0 to 3; a second call is its next incarnation. */
void indexer_bed_replica_up(struct indexer_bed *bed, size_t number, const char *digest, size_t dimension);
void indexer_bed_replica_down(struct indexer_bed *bed, size_t number); /* it dies, and the supervisor says so */
void indexer_bed_gateway_up(struct indexer_bed *bed, uint64_t gateway_id);
void indexer_bed_gateway_down(struct indexer_bed *bed);
void indexer_bed_use_pair(struct indexer_bed *bed, uint64_t epoch, uint64_t lowest);
/* A gateway is going to be replaced, or has been (X9). */
void indexer_bed_hold_switches(struct indexer_bed *bed, bool hold);

uint64_t indexer_bed_put(struct indexer_bed *bed, const char *id, const char *text);
uint64_t indexer_bed_delete(struct indexer_bed *bed, const char *id);
void indexer_bed_put_many(struct indexer_bed *bed, const char *prefix, size_t count, const char *text);
void indexer_bed_note_query(struct indexer_bed *bed, const char *text);
/* Until log_indexed says so. */
void indexer_bed_wait_indexed(struct indexer_bed *bed, uint64_t seq);

/* ---- asks ---- */

uint64_t indexer_bed_ask(struct indexer_bed *bed, const char *verb, const char *body_json, ...)
    __attribute__((format(printf, 3, 4)));
/* NULL: not answered yet. */
const struct bed_answer *indexer_bed_find_answer(const struct indexer_bed *bed, uint64_t request);
/* The answer's body; fails the test when it is an error. */
const char *indexer_bed_answer(struct indexer_bed *bed, uint64_t request);
/* The error's JSON; fails the test when it is none. */
const char *indexer_bed_refusal(struct indexer_bed *bed, uint64_t request);
void indexer_bed_add_green(struct indexer_bed *bed); /* create_index and await_ready */

/* ---- what is in the index ---- */

/* The index at the log's head: each living document with the vector of its text, but those that failed; nothing else.
 */
void indexer_bed_check_whole(struct indexer_bed *bed, const char *index_id);
void indexer_bed_check_queries_whole(struct indexer_bed *bed, const char *index_id);
/* Whether a search would be answered now. */
bool indexer_bed_answers(struct indexer_bed *bed, const char *index_id);
char *indexer_bed_log_id(struct indexer_bed *bed); /* caller frees */
void indexer_bed_close_writes(struct indexer_bed *bed); /* the test's own connections, until they are needed again */
uint64_t indexer_bed_durable(struct indexer_bed *bed, const char *index_id);
uint64_t indexer_bed_applied(struct indexer_bed *bed, const char *index_id);
uint64_t indexer_bed_failed(struct indexer_bed *bed, const char *index_id);
char *indexer_bed_list_state(struct indexer_bed *bed,
                             const char *index_id); /* on the list; caller frees; NULL: not there */
bool indexer_bed_has_event(struct indexer_bed *bed, const char *part);
char *indexer_bed_index_folder(struct indexer_bed *bed, const char *index_id);
