/* Reads the control database on a worker, one job at a time: the routes when their generation is said to have changed,
 * and, for names that have none, why. A collection's name that has none is looked for in routes read anew. One
 * read-only connection, opened when first needed: at the very first start there is no database yet (R3). What fails is
 * tried again; until then the gateway goes on with the routes it has. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

#define RETRY_MS 100 /* at first; doubles up to */
#define RETRY_MAXIMUM_MS 3200
#define LOOKUPS_MAXIMUM 64 /* names in one job */
#define WAITING_MAXIMUM 1024 /* exchanges that wait for one */
#define NAMES_SIZE_MAXIMUM (64u * 1024) /* of one deployment's names together */

/* What is asked about a name. */
enum lookup_kind {
    LOOKUP_STATUS, /* of a deployment without a route */
    LOOKUP_COLLECTION, /* nothing: the routes are read again */
    LOOKUP_NAMES, /* all that the deployment is called, for a token that is limited to names */
};

/* A name on its way to the worker and back. */
struct gateway_lookup {
    struct exchange *exchange; /* NULL: it has ended meanwhile */
    char name[GATEWAY_NAME_MAXIMUM + 1];
    enum lookup_kind kind;
    char *status, *message; /* of its deployment; status NULL: there is none */
    struct buffer names; /* each with its NUL */
    struct gateway_lookup *next;
};

struct gateway_reader {
    struct gateway *gateway;
    struct store *store; /* NULL until it could be opened; the worker's while is_busy */
    char *path;
    uv_work_t work;
    uv_timer_t timer;
    bool is_busy, is_closing, timer_is_closed;
    bool is_due; /* the routes are to be read */
    uint64_t retry_ms; /* the last pause; 0: it did not fail last time */
    uint64_t wanted, asked; /* the generation: announced by now; when the job began */
    struct gateway_lookup *waiting, **waiting_end;
    size_t waiting_count;

    /* the job's: */
    bool reads_routes;
    struct gateway_lookup *lookups;
    struct gateway_tokens *tokens; /* those in force, counted while it runs; NULL: none yet */
    struct gateway_snapshot *snapshot; /* result */
    bool has_no_database; /* result: there is no such file */
    struct error *error;
};

static void begin_job(struct gateway_reader *reader);

static void on_timer(uv_timer_t *timer) {
    begin_job(timer->data);
}

/* ---- on the worker -------------------------------------------------------- */

static int look_up(struct store_transaction *transaction, struct gateway_lookup *lookup, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int step = store_query(transaction, &rows, ret_error,
                           "SELECT status, message FROM deployments WHERE status <> 'inactive' AND (name = ? OR id = ? "
                           "OR id = (SELECT deployment_id FROM route_names WHERE route_names.name = ?)) LIMIT 1",
                           "ttt", lookup->name, lookup->name, lookup->name);
    if (step) return step;
    step = store_next(rows, ret_error);
    if (step != 1) return step;
    lookup->status = store_text_copy(rows, 0);
    lookup->message = store_text_copy(rows, 1);
    return 0;
}

/* An inactive one has given its name away, but is still the one that had it. */
static int look_names_up(struct store_transaction *transaction, struct gateway_lookup *lookup,
                         struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int step = store_query(transaction, &rows, ret_error,
                           "SELECT name FROM route_names WHERE deployment_id = lower(?) OR deployment_id = "
                           "(SELECT deployment_id FROM route_names AS named WHERE named.name = ?) "
                           "UNION ALL SELECT name FROM deployments WHERE id = lower(?)",
                           "ttt", lookup->name, lookup->name, lookup->name);
    if (step) return step;
    while ((step = store_next(rows, ret_error)) == 1) {
        const char *name = store_text(rows, 0);
        buffer_append(&lookup->names, name, strlen(name) + 1);
    }
    return step;
}

static int look_all_up(struct gateway_reader *reader, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *transaction = NULL;
    int failed = store_begin(reader->store, &transaction, ret_error);
    for (struct gateway_lookup *lookup = reader->lookups; lookup && !failed; lookup = lookup->next)
        if (lookup->kind == LOOKUP_STATUS)
            failed = look_up(transaction, lookup, ret_error);
        else if (lookup->kind == LOOKUP_NAMES)
            failed = look_names_up(transaction, lookup, ret_error);
    return failed;
}

static void on_work(uv_work_t *work) {
    struct gateway_reader *reader = CONTAINER_OF(work, struct gateway_reader, work);
    reader->has_no_database = !reader->store && access(reader->path, F_OK) < 0 && errno == ENOENT;
    if (!reader->store && store_open_reader(reader->path, &reader->store, &reader->error)) return;
    if (reader->reads_routes && gateway_snapshot_read(reader->store, reader->tokens, &reader->snapshot, &reader->error))
        return;
    if (reader->lookups) look_all_up(reader, &reader->error);
}

/* ---- what came back ------------------------------------------------------- */

static void free_lookup(struct gateway_lookup *lookup) {
    free(lookup->status);
    free(lookup->message);
    buffer_clear(&lookup->names);
    free(lookup);
}

static void explain_collection(struct gateway_reader *reader, struct exchange *exchange) {
    if (!reader->error) {
        gateway_collection_admit_found(exchange);
        return;
    }
    _cleanup_free_ char *cause = error_text(reader->error);
    exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "whether there is a collection %s could not be read: %s",
                       exchange->collection_name, cause);
}

static void explain(struct gateway_reader *reader, struct gateway_lookup *lookup) {
    struct exchange *exchange = lookup->exchange;
    const struct gateway_snapshot *routes = reader->gateway->routes.current;
    exchange->lookup = NULL;
    if (lookup->kind == LOOKUP_COLLECTION) {
        explain_collection(reader, exchange);
    } else if (lookup->kind == LOOKUP_NAMES) {
        gateway_limits_names_found(exchange, &lookup->names, reader->error);
    } else if (routes && gateway_snapshot_find(routes, lookup->name, strlen(lookup->name))) {
        gateway_proxy_admit(exchange); /* it has one by now */
    } else if (reader->error && reader->store) {
        _cleanup_free_ char *cause = error_text(reader->error);
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503,
                           "deployment %s has no route here, and its status could not be read: %s", lookup->name,
                           cause);
    } else if (exchange->pair) { /* a search: it is not the client who named it */
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the encoder of collection %s does not serve: it is %s",
                           exchange->collection_name, lookup->status ? lookup->status : "not there");
    } else if (!lookup->status) {
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "there is no deployment %s", lookup->name);
    } else if (text_starts_with(lookup->status, "delet")) {
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "deployment %s does not serve any more: it is %s",
                           lookup->name, lookup->status);
    } else {
        bool is_told = lookup->message && lookup->message[0];
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "deployment %s does not serve: it is %s%s%s", lookup->name,
                           lookup->status, is_told ? ": " : "", is_told ? lookup->message : "");
    }
}

static void explain_all(struct gateway_reader *reader) {
    while (reader->lookups) {
        struct gateway_lookup *lookup = reader->lookups;
        reader->lookups = lookup->next;
        if (lookup->exchange) explain(reader, lookup);
        free_lookup(lookup);
    }
}

static void log_failure(const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "the routes could not be read; going on with those there are", "cause", text, NULL);
}

static void try_again(struct gateway_reader *reader) {
    uint64_t pause_ms = reader->retry_ms ? 2 * reader->retry_ms : RETRY_MS;
    reader->retry_ms = pause_ms < RETRY_MAXIMUM_MS ? pause_ms : RETRY_MAXIMUM_MS;
    uv_timer_start(&reader->timer, on_timer, reader->retry_ms, 0);
}

/* What the first snapshot of a gateway is made of while the database cannot be read: no routes. Only where there is no
 * file at all is it sure that there are no tokens; one that cannot be read may have some, so that nobody is let in by
 * a token before it could. */
static struct gateway_snapshot *snapshot_of_nothing(const struct gateway_reader *reader) {
    struct gateway_snapshot *snapshot = gateway_snapshot_empty();
    if (reader->has_no_database) snapshot->tokens = gateway_tokens_empty();
    return snapshot;
}

/* The database is not there yet: the very first start. The controller speaks when it has made it. */
static bool is_first_start(const struct gateway_reader *reader) {
    return !reader->store && reader->error->class == ERROR_UNAVAILABLE && !reader->gateway->routes.current;
}

/* False: to be tried again in a moment. */
static bool take_routes(struct gateway_reader *reader) {
    struct gateway *gateway = reader->gateway;
    uint64_t generation = 0;
    if (reader->snapshot) {
        generation = reader->snapshot->generation;
        if (gateway_routes_install(&gateway->routes, TAKE(reader->snapshot))) {
            gateway_proxy_reroute_waiting(gateway);
            gateway_collections_rerouted(gateway);
        }
    } else if (is_first_start(reader)) {
        gateway_routes_install(&gateway->routes, snapshot_of_nothing(reader));
    } else {
        log_failure(reader->error);
        return false;
    }
    gateway_replicas_forget_lanes(&gateway->replicas, clock_monotonic_ms());
    bool is_known = gateway->routes.current->tokens;
    reader->is_due = generation < reader->wanted || !is_known;
    if (generation >= reader->asked) reader->retry_ms = 0;
    gateway_start_serving(gateway);
    return generation >= reader->asked && is_known;
}

static void free_when_done(struct gateway_reader *reader) {
    if (!reader->is_closing || reader->is_busy || !reader->timer_is_closed) return;
    while (reader->waiting) {
        struct gateway_lookup *lookup = reader->waiting;
        reader->waiting = lookup->next;
        free_lookup(lookup);
    }
    store_close(reader->store);
    free(reader->path);
    free(reader);
}

static void drop_job(struct gateway_reader *reader) {
    gateway_snapshot_free(TAKE(reader->snapshot));
    while (reader->lookups) {
        struct gateway_lookup *lookup = reader->lookups;
        reader->lookups = lookup->next;
        free_lookup(lookup);
    }
}

static void on_worked(uv_work_t *work, int status) {
    struct gateway_reader *reader = CONTAINER_OF(work, struct gateway_reader, work);
    (void)status;
    reader->is_busy = false;
    gateway_tokens_release(TAKE(reader->tokens));
    if (reader->is_closing) {
        drop_job(reader);
    } else {
        bool again = reader->reads_routes && !take_routes(reader);
        explain_all(reader);
        if (again)
            try_again(reader);
        else
            begin_job(reader);
    }
    error_free(TAKE(reader->error));
    free_when_done(reader);
}

/* ---- asking --------------------------------------------------------------- */

static void take_waiting(struct gateway_reader *reader) {
    struct gateway_lookup **end = &reader->lookups;
    for (size_t i = 0; i < LOOKUPS_MAXIMUM && reader->waiting; i++) {
        struct gateway_lookup *lookup = reader->waiting;
        reader->waiting = lookup->next;
        reader->waiting_count--;
        lookup->next = NULL;
        *end = lookup;
        end = &lookup->next;
    }
    if (!reader->waiting) reader->waiting_end = &reader->waiting;
}

static void begin_job(struct gateway_reader *reader) {
    if (reader->is_busy || reader->is_closing) return;
    if (!reader->is_due && !reader->waiting) return;
    reader->reads_routes = reader->is_due;
    reader->asked = reader->wanted;
    take_waiting(reader);
    for (struct gateway_lookup *lookup = reader->lookups; lookup; lookup = lookup->next)
        reader->reads_routes |= lookup->kind == LOOKUP_COLLECTION;
    const struct gateway_snapshot *current = reader->gateway->routes.current;
    if (reader->reads_routes && current && current->tokens) reader->tokens = gateway_tokens_take(current->tokens);
    reader->is_busy = true;
    uv_queue_work(reader->gateway->config.loop, &reader->work, on_work, on_worked);
}

struct gateway_reader *gateway_reader_new(struct gateway *gateway) {
    struct gateway_reader *reader = mem_new(struct gateway_reader);
    reader->gateway = gateway;
    reader->path = text_format("%s/control.db", gateway->settings->state);
    reader->waiting_end = &reader->waiting;
    uv_timer_init(gateway->config.loop, &reader->timer);
    reader->timer.data = reader;
    return reader;
}

void gateway_reader_want(struct gateway_reader *reader, uint64_t generation) {
    if (generation > reader->wanted) reader->wanted = generation;
    reader->is_due = true;
    begin_job(reader);
}

static void wait_for(struct gateway_reader *reader, struct exchange *exchange, const char *name,
                     enum lookup_kind kind) {
    if (reader->waiting_count == WAITING_MAXIMUM) {
        exchange_fail_with(exchange, ERROR_REQUEST, 429, "too many requests name %s that are not there",
                           kind == LOOKUP_COLLECTION ? "collections" : "deployments");
        return;
    }
    struct gateway_lookup *lookup = mem_new(struct gateway_lookup);
    lookup->exchange = exchange;
    lookup->kind = kind;
    lookup->names.maximum = NAMES_SIZE_MAXIMUM;
    strcpy(lookup->name, name); /* of the same size */
    exchange->lookup = lookup;
    *reader->waiting_end = lookup;
    reader->waiting_end = &lookup->next;
    reader->waiting_count++;
    begin_job(reader);
}

void gateway_reader_explain(struct gateway_reader *reader, struct exchange *exchange) {
    wait_for(reader, exchange, exchange->model, LOOKUP_STATUS);
}

void gateway_reader_find_names(struct gateway_reader *reader, struct exchange *exchange) {
    wait_for(reader, exchange, exchange->model, LOOKUP_NAMES);
}

void gateway_reader_find_collection(struct gateway_reader *reader, struct exchange *exchange) {
    wait_for(reader, exchange, exchange->collection_name, LOOKUP_COLLECTION);
}

void gateway_reader_forget(struct exchange *exchange) {
    if (!exchange->lookup) return;
    exchange->lookup->exchange = NULL;
    exchange->lookup = NULL;
}

static void on_timer_closed(uv_handle_t *handle) {
    struct gateway_reader *reader = handle->data;
    reader->timer_is_closed = true;
    free_when_done(reader);
}

void gateway_reader_close(struct gateway_reader *reader) {
    if (reader->is_closing) return;
    reader->is_closing = true;
    uv_close((uv_handle_t *)&reader->timer, on_timer_closed);
}
