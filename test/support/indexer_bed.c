#include "support/indexer_bed.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "indexer/indexer.h"
#include "support/scratch.h"
#include "vector/vector.h"
#include "wire/role.h"

#define REQUIRE(call)                                                                                                  \
    do {                                                                                                               \
        _cleanup_error_ struct error *error = NULL;                                                                    \
        if ((call) < 0) {                                                                                              \
            _cleanup_free_ char *text_ = error_text(error);                                                            \
            fail_msg("%s: %s", #call, text_);                                                                          \
        }                                                                                                              \
    } while (0)

/* ---- pause points -------------------------------------------------------------- */

struct bed_pause {
    char name[64];
    _Atomic int is_armed, is_reached;
};
static struct bed_pause *pause_of_process; /* in the indexer's process */

/* Instead of base/pause.c's. */
void pause_point(const char *name) {
    struct bed_pause *pause = pause_of_process;
    if (!pause || !pause->is_armed || strcmp(pause->name, name) != 0) return;
    pause->is_reached = 1;
    while (pause->is_armed) usleep(500);
}

void indexer_bed_arm(struct indexer_bed *bed, const char *point) {
    snprintf(bed->pause->name, sizeof bed->pause->name, "%s", point);
    bed->pause->is_reached = 0;
    bed->pause->is_armed = 1;
}

bool indexer_bed_has_paused(const struct indexer_bed *bed) {
    return bed->pause->is_reached;
}

void indexer_bed_go_on(struct indexer_bed *bed) {
    bed->pause->is_armed = 0;
}

/* ---- the bed --------------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer) {
    (void)timer;
}

static char *collections_root(const struct indexer_bed *bed) {
    return fs_join(bed->folder, "collections");
}

struct indexer_bed *indexer_bed_new(bool keep_queries) {
    struct indexer_bed *bed = mem_new(struct indexer_bed);
    bed->folder = scratch_new();
    bed->settings = settings_new();
    bed->keep_queries = keep_queries;
    bed->answers_pairs = true;
    bed->pause = mmap(NULL, sizeof *bed->pause, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(bed->pause != MAP_FAILED);
    indexer_bed_set(bed, "state", bed->folder);
    indexer_bed_set(bed, "log_level", getenv("BED_LOG") ? getenv("BED_LOG") : "error");
    uv_loop_init(&bed->loop);
    uv_timer_init(&bed->loop, &bed->tick);
    uv_timer_start(&bed->tick, on_tick, 2, 2);
    _cleanup_free_ char *root = collections_root(bed), *run = fs_join(bed->folder, "run");
    REQUIRE(fs_make_folders(root, &error));
    REQUIRE(fs_make_folders(run, &error));
    const struct collection_spec spec = {.collection_id = BED_COLLECTION,
                                         .name = "things",
                                         .metric = "cosine",
                                         .keep_queries = keep_queries,
                                         .index_id = BED_BLUE,
                                         .query_index_id = keep_queries ? BED_BLUE_QUERIES : NULL,
                                         .deployment_id = "deployment-blue",
                                         .encoder_digest = BED_DIGEST,
                                         .revision = 1,
                                         .dimension = BED_DIMENSION};
    REQUIRE(collection_create(root, &spec, &error));
    return bed;
}

void indexer_bed_set(struct indexer_bed *bed, const char *name, const char *value) {
    REQUIRE(settings_set(bed->settings, name, value, &error));
}

static void clear_answers(struct indexer_bed *bed) {
    for (size_t i = 0; i < bed->answer_count; i++) {
        free(bed->answers[i].error_json);
        free(bed->answers[i].body_json);
    }
    bed->answer_count = 0;
}

void indexer_bed_free(struct indexer_bed *bed) {
    if (bed->pid) indexer_bed_kill(bed);
    for (size_t i = 0; i < BED_REPLICAS; i++) fake_batch_encoder_close(&bed->replicas[i]);
    uv_close((uv_handle_t *)&bed->tick, NULL);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    collection_close(bed->collection);
    clear_answers(bed);
    settings_free(bed->settings);
    munmap(bed->pause, sizeof *bed->pause);
    scratch_free(bed->folder);
    free(bed);
}

/* ---- the process ------------------------------------------------------------------- */

/* The replicas' sockets are none of the indexer's: a dead one's would stay open. */
static void close_sockets(void) {
    for (int i = ROLE_DESCRIPTOR_SUPERVISOR + 1; i < 256; i++) {
        struct stat status;
        if (fstat(i, &status) == 0 && S_ISSOCK(status.st_mode)) close(i);
    }
}

static void become_indexer(struct indexer_bed *bed, int end) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pause_of_process = bed->pause;
    if (end == ROLE_DESCRIPTOR_SUPERVISOR)
        fcntl(end, F_SETFD, 0);
    else
        dup2(end, ROLE_DESCRIPTOR_SUPERVISOR); /* what stood there is the test's own */
    close_sockets();
    _exit(indexer_main(bed->settings));
}

void indexer_bed_start(struct indexer_bed *bed) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    collection_close(TAKE(bed->collection)); /* no connection crosses a fork (S1) */
    fflush(NULL);
    bed->said_ready = false;
    bed->indexed = bed->epoch = bed->event_id = 0;
    clear_answers(bed);
    bed->pid = fork();
    assert_true(bed->pid >= 0);
    if (!bed->pid) become_indexer(bed, ends[1]);
    close(ends[1]);
    bed->channel = wire_channel_new(ends[0]);
    _cleanup_free_ char *root = collections_root(bed), *folder = fs_join(root, BED_COLLECTION);
    REQUIRE(collection_open(folder, COLLECTION_APPENDS, &bed->collection, &error));
    for (size_t i = 0; i < BED_REPLICAS; i++)
        if (bed->replicas[i].server) indexer_bed_replica_up(bed, i, NULL, 0);
    if (bed->gateway_id) wire_say(bed->channel, gateway_up, .gateway_id = bed->gateway_id);
    wire_say(bed->channel, snapshot_end, 0);
    if (!bed->pause->is_armed) indexer_bed_until(bed, bed->said_ready);
}

static int reap(struct indexer_bed *bed) {
    int status = 0;
    uint64_t until_ms = clock_monotonic_ms() + 20000;
    while (waitpid(bed->pid, &status, WNOHANG) == 0) {
        if (clock_monotonic_ms() > until_ms) fail_msg("the indexer does not end");
        indexer_bed_turn(bed);
    }
    bed->pid = 0;
    wire_channel_free(TAKE(bed->channel));
    return status;
}

void indexer_bed_kill(struct indexer_bed *bed) {
    kill(bed->pid, SIGKILL);
    bed->pause->is_armed = 0;
    int status = reap(bed);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int indexer_bed_exit_status(struct indexer_bed *bed) {
    int status = reap(bed);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

void indexer_bed_stop(struct indexer_bed *bed) {
    kill(bed->pid, SIGTERM);
    assert_int_equal(indexer_bed_exit_status(bed), 0);
}

/* ---- hearing ------------------------------------------------------------------------- */

static void note_answer(struct indexer_bed *bed, const struct wire_indexer_answer *answer) {
    assert_true(bed->answer_count < BED_ANSWERS);
    bed->answers[bed->answer_count++] = (struct bed_answer){.request = answer->request,
                                                            .error_json = text_copy(answer->error_json),
                                                            .body_json = text_copy(answer->body_json)};
}

static void note_progress(struct indexer_bed *bed, const struct wire_index_progress *progress) {
    size_t which = text_equal(progress->index_id, BED_BLUE) ? 0 : text_equal(progress->index_id, BED_GREEN) ? 1 : 2;
    snprintf(bed->state[which], sizeof bed->state[which], "%s", progress->state);
    bed->progress_done = progress->done;
    bed->progress_total = progress->total;
}

static void hear(struct indexer_bed *bed, const struct wire_message *message) {
    switch (message->type) {
    case WIRE_role_ready: bed->said_ready = true; break;
    case WIRE_switches_held: bed->holds_switches = true; break;
    case WIRE_log_indexed: bed->indexed = message->log_indexed.seq; break;
    case WIRE_pair_changed:
        bed->epoch = message->pair_changed.epoch;
        if (bed->answers_pairs && bed->gateway_id) indexer_bed_use_pair(bed, bed->epoch, bed->epoch);
        break;
    case WIRE_indexer_answer: note_answer(bed, &message->indexer_answer); break;
    case WIRE_index_progress: note_progress(bed, &message->index_progress); break;
    case WIRE_collection_events: bed->event_id = message->collection_events.last_id; break;
    default: break;
    }
}

void indexer_bed_turn(struct indexer_bed *bed) {
    uv_run(&bed->loop, UV_RUN_ONCE);
    while (bed->channel) {
        _cleanup_wire_message_ struct wire_message message = {0};
        if (wire_receive(bed->channel, &message, NULL) <= 0) return;
        hear(bed, &message);
    }
}

/* ---- replicas and the gateway ------------------------------------------------------------ */

static char *socket_of(const struct indexer_bed *bed, size_t number) {
    return text_format("%s/run/replica.%zu", bed->folder, number);
}

static void say_up(struct indexer_bed *bed, size_t number, bool is_next) {
    static uint64_t incarnations[BED_REPLICAS];
    struct fake_batch_encoder *replica = &bed->replicas[number];
    _cleanup_free_ char *path = socket_of(bed, number), *id = text_format("replica-%zu", number);
    _cleanup_free_ char *report = text_format("{\"kind\":\"embedding\",\"encoder_digest\":\"%s\",\"dimension\":%zu,"
                                              "\"recipe\":{\"maximum_length\":{\"value\":256}}}",
                                              replica->digest, replica->dimension);
    incarnations[number] += is_next;
    if (bed->channel)
        wire_say(bed->channel, replica_up, .replica_id = id, .incarnation = incarnations[number], .address = path,
                 .pid = 1, .report_json = report);
}

void indexer_bed_replica_up(struct indexer_bed *bed, size_t number, const char *digest, size_t dimension) {
    _cleanup_free_ char *path = socket_of(bed, number);
    if (digest) fake_batch_encoder_open(&bed->replicas[number], &bed->loop, path, digest, dimension);
    say_up(bed, number, digest != NULL);
}

void indexer_bed_replica_down(struct indexer_bed *bed, size_t number) {
    _cleanup_free_ char *id = text_format("replica-%zu", number);
    fake_batch_encoder_close(&bed->replicas[number]);
    if (bed->channel) wire_say(bed->channel, replica_down, .replica_id = id, .incarnation = 1000, .cause = "killed");
}

void indexer_bed_gateway_up(struct indexer_bed *bed, uint64_t gateway_id) {
    bed->gateway_id = gateway_id;
    if (bed->channel) wire_say(bed->channel, gateway_up, .gateway_id = gateway_id);
}

void indexer_bed_gateway_down(struct indexer_bed *bed) {
    wire_say(bed->channel, gateway_down, .gateway_id = bed->gateway_id);
    bed->gateway_id = 0;
}

void indexer_bed_use_pair(struct indexer_bed *bed, uint64_t epoch, uint64_t lowest) {
    wire_say(bed->channel, pair_used, .gateway_id = bed->gateway_id, .collection_id = BED_COLLECTION, .epoch = epoch,
             .lowest = lowest);
}

void indexer_bed_hold_switches(struct indexer_bed *bed, bool hold) {
    bed->holds_switches = false;
    wire_say(bed->channel, hold_switches, .hold = hold);
}

static struct collection *open_writes(struct indexer_bed *bed) {
    if (bed->collection) return bed->collection;
    _cleanup_free_ char *root = collections_root(bed), *folder = fs_join(root, BED_COLLECTION);
    REQUIRE(collection_open(folder, COLLECTION_APPENDS, &bed->collection, &error));
    return bed->collection;
}

static uint64_t append(struct indexer_bed *bed, struct collection_write *writes, size_t count) {
    uint64_t head = 0;
    REQUIRE(collection_append(open_writes(bed), writes, count, &head, &error));
    if (bed->channel && !bed->is_silent)
        wire_say(bed->channel, log_appended, .collection_id = BED_COLLECTION, .set = "documents", .head = head);
    return head;
}

uint64_t indexer_bed_put(struct indexer_bed *bed, const char *id, const char *text) {
    return append(bed, &(struct collection_write){.id = id, .text = text}, 1);
}

uint64_t indexer_bed_delete(struct indexer_bed *bed, const char *id) {
    return append(bed, &(struct collection_write){.id = id}, 1);
}

void indexer_bed_put_many(struct indexer_bed *bed, const char *prefix, size_t count, const char *text) {
    struct collection_write *writes = mem_new_array(count, struct collection_write);
    for (size_t i = 0; i < count; i++) {
        writes[i].id = text_format("%s%zu", prefix, i);
        writes[i].text = text_format("%s %zu", text, i);
    }
    append(bed, writes, count);
    for (size_t i = 0; i < count; i++) {
        free((char *)writes[i].id);
        free((char *)writes[i].text);
    }
    free(writes);
}

void indexer_bed_note_query(struct indexer_bed *bed, const char *text) {
    uint64_t head = 0;
    REQUIRE(collection_note_queries(open_writes(bed), &text, 1, 1000, &head, &error));
    if (bed->channel && !bed->is_silent)
        wire_say(bed->channel, log_appended, .collection_id = BED_COLLECTION, .set = "queries", .head = head);
}

void indexer_bed_wait_indexed(struct indexer_bed *bed, uint64_t seq) {
    indexer_bed_until(bed, bed->indexed >= seq);
}

/* ---- asks -------------------------------------------------------------------------------------- */

uint64_t indexer_bed_ask(struct indexer_bed *bed, const char *verb, const char *body_json, ...) {
    va_list arguments;
    va_start(arguments, body_json);
    _cleanup_free_ char *body = text_format_list(body_json, arguments);
    va_end(arguments);
    wire_say(bed->channel, indexer_ask, .request = ++bed->last_request, .verb = verb, .collection_id = BED_COLLECTION,
             .body_json = body);
    return bed->last_request;
}

const struct bed_answer *indexer_bed_find_answer(const struct indexer_bed *bed, uint64_t request) {
    for (size_t i = 0; i < bed->answer_count; i++)
        if (bed->answers[i].request == request) return &bed->answers[i];
    return NULL;
}

const char *indexer_bed_answer(struct indexer_bed *bed, uint64_t request) {
    indexer_bed_until(bed, indexer_bed_find_answer(bed, request));
    const struct bed_answer *answer = indexer_bed_find_answer(bed, request);
    if (*answer->error_json) fail_msg("the ask failed: %s", answer->error_json);
    return answer->body_json;
}

const char *indexer_bed_refusal(struct indexer_bed *bed, uint64_t request) {
    indexer_bed_until(bed, indexer_bed_find_answer(bed, request));
    const struct bed_answer *answer = indexer_bed_find_answer(bed, request);
    if (!*answer->error_json) fail_msg("the ask was done: %s", answer->body_json);
    return answer->error_json;
}

void indexer_bed_add_green(struct indexer_bed *bed) {
    uint64_t request =
        indexer_bed_ask(bed, "create_index",
                        "{\"index_id\":\"" BED_GREEN "\",%s\"task_id\":\"task-1\",\"deployment_id\":\"deployment-"
                        "green\",\"revision\":1,\"encoder_digest\":\"" BED_DIGEST_GREEN "\",\"dimension\":%d}",
                        bed->keep_queries ? "\"query_index_id\":\"" BED_GREEN_QUERIES "\"," : "", BED_DIMENSION_GREEN);
    assert_non_null(strstr(indexer_bed_answer(bed, request), BED_GREEN));
    indexer_bed_answer(bed, indexer_bed_ask(bed, "await_ready", "{\"index_id\":\"" BED_GREEN "\"}"));
}

/* ---- what is in the index ------------------------------------------------------------------------- */

static struct collection_read *begin_read(struct indexer_bed *bed, enum collection_set set) {
    struct collection_read *read = NULL;
    REQUIRE(collection_read_begin(open_writes(bed), set, &read, &error));
    return read;
}

static void load_index(struct indexer_bed *bed, const char *index_id, struct collection_index *ret_index) {
    _cleanup_read_ struct collection_read *read = begin_read(bed, COLLECTION_DOCUMENTS);
    REQUIRE(collection_load_index(read, index_id, ret_index, &error));
}

char *indexer_bed_index_folder(struct indexer_bed *bed, const char *index_id) {
    return text_format("%s/collections/" BED_COLLECTION "/indexes/%s", bed->folder, index_id);
}

struct look {
    struct indexer_bed *bed;
    struct collection_index index;
    struct collection_read *read;
    struct vector_reader *reader;
    struct vector_view *view;
    size_t living, failed;
};

static void open_look(struct indexer_bed *bed, const char *index_id, struct look *look) {
    struct collection_facts facts = {0};
    *look = (struct look){.bed = bed};
    load_index(bed, index_id, &look->index);
    look->read = begin_read(bed, look->index.set);
    REQUIRE(collection_load_facts(look->read, &facts, &error));
    const struct vector_spec spec = {.index_id = index_id,
                                     .log_id = facts.log_id,
                                     .encoder_digest = look->index.encoder_digest,
                                     .dimension = (uint32_t)look->index.dimension};
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, index_id);
    REQUIRE(folder_vectors.open_reader(folder, &spec, &look->reader, &error));
    collection_facts_clear(&facts);
}

static void close_look(struct look *look) {
    if (look->view) folder_vectors.release(look->view);
    folder_vectors.close_reader(look->reader);
    collection_read_end(look->read);
    collection_index_clear(&look->index);
}

uint64_t indexer_bed_applied(struct indexer_bed *bed, const char *index_id) {
    struct look look;
    struct vector_info info = {0};
    open_look(bed, index_id, &look);
    folder_vectors.info(look.reader, &info);
    close_look(&look);
    return info.applied;
}

bool indexer_bed_answers(struct indexer_bed *bed, const char *index_id) {
    struct look look;
    open_look(bed, index_id, &look);
    bool answers = folder_vectors.look(look.reader, collection_head(look.read), &look.view, NULL) >= 0;
    close_look(&look);
    return answers;
}

char *indexer_bed_log_id(struct indexer_bed *bed) {
    _cleanup_read_ struct collection_read *read = begin_read(bed, COLLECTION_DOCUMENTS);
    struct collection_facts facts = {0};
    REQUIRE(collection_load_facts(read, &facts, &error));
    char *log_id = TAKE(facts.log_id);
    collection_facts_clear(&facts);
    return log_id;
}

void indexer_bed_close_writes(struct indexer_bed *bed) {
    collection_close(TAKE(bed->collection));
}

static bool check_document(void *context, const struct collection_row *row) {
    struct look *look = context;
    float vector[64], expected[64];
    _cleanup_free_ char *detail = NULL;
    size_t dimension = (size_t)look->index.dimension;
    look->living++;
    if (!folder_vectors.fetch(look->view, row->seq, vector)) {
        struct collection_read *read = begin_read(look->bed, COLLECTION_DOCUMENTS);
        int found = collection_find_failure(read, look->index.index_id, row->seq, &detail, NULL);
        collection_read_end(read);
        if (found != 1) fail_msg("document %s at %llu is not in the index", row->id, (unsigned long long)row->seq);
        look->failed++;
        return true;
    }
    double product = 0;
    fake_batch_encoder_embed(row->text, strlen(row->text), look->index.encoder_digest, expected, dimension);
    for (size_t i = 0; i < dimension; i++) product += (double)vector[i] * expected[i];
    if (product < 0.99999) fail_msg("document %s has the vector of another text", row->id);
    return true;
}

static void check_whole(struct indexer_bed *bed, const char *index_id) {
    struct look look;
    uint64_t rows[4096];
    open_look(bed, index_id, &look);
    REQUIRE(folder_vectors.look(look.reader, collection_head(look.read), &look.view, &error));
    assert_int_equal(folder_vectors.seq(look.view), collection_head(look.read));
    REQUIRE(collection_each_live(look.read, 0, true, check_document, &look, &error));
    size_t count = folder_vectors.list(look.view, 0, rows, 4096);
    assert_true(count < 4096);
    assert_int_equal(count, look.living - look.failed);
    close_look(&look);
}

void indexer_bed_check_whole(struct indexer_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = begin_read(bed, COLLECTION_DOCUMENTS);
    uint64_t head = collection_head(read);
    indexer_bed_until(bed, indexer_bed_applied(bed, index_id) >= head);
    check_whole(bed, index_id);
}

void indexer_bed_check_queries_whole(struct indexer_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = begin_read(bed, COLLECTION_QUERIES);
    uint64_t head = collection_head(read);
    indexer_bed_until(bed, indexer_bed_applied(bed, index_id) >= head);
    check_whole(bed, index_id);
}

uint64_t indexer_bed_durable(struct indexer_bed *bed, const char *index_id) {
    struct collection_index index = {0};
    load_index(bed, index_id, &index);
    uint64_t durable = index.durable_seq;
    collection_index_clear(&index);
    return durable;
}

uint64_t indexer_bed_failed(struct indexer_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = begin_read(bed, COLLECTION_DOCUMENTS);
    struct collection_failure *failures = NULL;
    size_t count = 0;
    uint64_t total = 0;
    REQUIRE(collection_list_failures(read, index_id, 0, 0, &failures, &count, &total, &error));
    collection_failures_free(failures, count);
    return total;
}

char *indexer_bed_list_state(struct indexer_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = begin_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index = {0};
    if (collection_load_index(read, index_id, &index, NULL) < 0) return NULL;
    char *state = TAKE(index.state);
    collection_index_clear(&index);
    return state;
}

bool indexer_bed_has_event(struct indexer_bed *bed, const char *part) {
    _cleanup_read_ struct collection_read *read = begin_read(bed, COLLECTION_DOCUMENTS);
    struct collection_event *events = NULL;
    size_t count = 0;
    bool has = false;
    REQUIRE(collection_list_events(read, 0, 1000, &events, &count, &error));
    for (size_t i = 0; i < count; i++) has = has || strstr(events[i].message, part);
    collection_events_free(events, count);
    return has;
}
