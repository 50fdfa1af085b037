#include "gateway/gateway_routes-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

static void free_route(struct gateway_route *route) {
    for (size_t i = 0; i < route->replica_count; i++) free(route->replica_ids[i]);
    free(route->replica_ids);
    free(route->replicas);
    free(route->deployment_id);
    free(route->name);
    free(route);
}

void gateway_snapshot_free(struct gateway_snapshot *snapshot) {
    if (!snapshot) return;
    struct gateway_route_name *name, *next_name;
    HASH_ITER(hh, snapshot->names, name, next_name) {
        HASH_DEL(snapshot->names, name);
        free(name->name);
        free(name);
    }
    struct gateway_route *route, *next_route;
    HASH_ITER(hh, snapshot->routes, route, next_route) {
        HASH_DEL(snapshot->routes, route);
        if (snapshot->owner) snapshot->owner->binder.unbind(snapshot->owner->binder.context, route);
        free_route(route);
    }
    struct gateway_collection_name *collection, *next_collection;
    HASH_ITER(hh, snapshot->collections, collection, next_collection) {
        HASH_DEL(snapshot->collections, collection);
        if (snapshot->owner) snapshot->owner->binder.unbind_collection(snapshot->owner->binder.context, collection);
        free(collection->name);
        free(collection->id);
        free(collection);
    }
    gateway_tokens_release(snapshot->tokens);
    free(snapshot);
}

static void free_snapshot_pointer(struct gateway_snapshot **snapshot) {
    gateway_snapshot_free(*snapshot);
}

struct gateway_snapshot *gateway_snapshot_empty(void) {
    return mem_new(struct gateway_snapshot);
}

static struct gateway_route *find_route(const struct gateway_snapshot *snapshot, const char *deployment_id,
                                        size_t size) {
    struct gateway_route *route = NULL;
    HASH_FIND(hh, snapshot->routes, deployment_id, size, route);
    return route;
}

struct gateway_route *gateway_snapshot_find(const struct gateway_snapshot *snapshot, const char *name, size_t size) {
    struct gateway_route_name *found = NULL;
    HASH_FIND(hh, snapshot->names, name, size, found);
    return found ? found->route : find_route(snapshot, name, size);
}

struct gateway_collection *gateway_snapshot_find_collection(const struct gateway_snapshot *snapshot, const char *name) {
    struct gateway_collection_name *found = NULL;
    HASH_FIND_STR(snapshot->collections, name, found);
    return found ? found->collection : NULL;
}

/* ---- reading ------------------------------------------------------------- */

static int read_generation(struct store_transaction *transaction, struct gateway_snapshot *snapshot,
                           struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int failed = store_query(transaction, &rows, ret_error, "SELECT generation FROM routing WHERE one = 1", "");
    if (failed) return failed;
    int step = store_next(rows, ret_error);
    if (step < 0) return step;
    if (step == 0) return error_set(ret_error, ERROR_DEPLOYMENT, "the table routing is empty");
    snapshot->generation = (uint64_t)store_number(rows, 0);
    return 0;
}

static int read_routes(struct store_transaction *transaction, struct gateway_snapshot *snapshot,
                       struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int step =
        store_query(transaction, &rows, ret_error,
                    "SELECT routes.deployment_id, routes.revision, COALESCE(revisions.created_at, 0) FROM routes "
                    "LEFT JOIN revisions ON revisions.deployment_id = routes.deployment_id "
                    "AND revisions.number = routes.revision",
                    "");
    if (step) return step;
    while ((step = store_next(rows, ret_error)) == 1) {
        struct gateway_route *route = mem_new(struct gateway_route);
        route->deployment_id = store_text_copy(rows, 0);
        route->revision = (uint64_t)store_number(rows, 1);
        route->created_at_ms = store_number(rows, 2);
        HASH_ADD_KEYPTR(hh, snapshot->routes, route->deployment_id, strlen(route->deployment_id), route);
    }
    return step;
}

/* Rows of a deployment that has no route are passed over: it does not serve. */
static int read_replicas(struct store_transaction *transaction, struct gateway_snapshot *snapshot,
                         struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int step =
        store_query(transaction, &rows, ret_error,
                    "SELECT deployment_id, replica_id FROM route_replicas ORDER BY deployment_id, replica_id", "");
    if (step) return step;
    while ((step = store_next(rows, ret_error)) == 1) {
        const char *deployment_id = store_text(rows, 0);
        struct gateway_route *route = find_route(snapshot, deployment_id, strlen(deployment_id));
        if (!route) continue;
        route->replica_ids = mem_resize(route->replica_ids, route->replica_count + 1, sizeof(char *));
        route->replica_ids[route->replica_count++] = store_text_copy(rows, 1);
    }
    return step;
}

static int read_names(struct store_transaction *transaction, struct gateway_snapshot *snapshot,
                      struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int step =
        store_query(transaction, &rows, ret_error, "SELECT name, deployment_id, is_current FROM route_names", "");
    if (step) return step;
    while ((step = store_next(rows, ret_error)) == 1) {
        const char *deployment_id = store_text(rows, 1);
        struct gateway_route *route = find_route(snapshot, deployment_id, strlen(deployment_id));
        if (!route) continue;
        struct gateway_route_name *name = mem_new(struct gateway_route_name);
        name->name = store_text_copy(rows, 0);
        name->is_current = store_number(rows, 2) != 0;
        name->route = route;
        if (name->is_current && !route->name) route->name = text_copy(name->name);
        HASH_ADD_KEYPTR(hh, snapshot->names, name->name, strlen(name->name), name);
    }
    return step;
}

static int read_collections(struct store_transaction *transaction, struct gateway_snapshot *snapshot,
                            struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int step =
        store_query(transaction, &rows, ret_error, "SELECT name, id FROM collections WHERE state = 'active'", "");
    if (step) return step;
    while ((step = store_next(rows, ret_error)) == 1) {
        struct gateway_collection_name *name = mem_new(struct gateway_collection_name);
        name->name = store_text_copy(rows, 0);
        name->id = store_text_copy(rows, 1);
        HASH_ADD_KEYPTR(hh, snapshot->collections, name->name, strlen(name->name), name);
    }
    return step;
}

int gateway_snapshot_read(struct store *store, struct gateway_tokens *known, struct gateway_snapshot **ret_snapshot,
                          struct error **ret_error) {
    __attribute__((cleanup(free_snapshot_pointer))) struct gateway_snapshot *snapshot = gateway_snapshot_empty();
    _cleanup_transaction_ struct store_transaction *transaction = NULL;
    int failed = store_begin(store, &transaction, ret_error);
    if (!failed) failed = read_generation(transaction, snapshot, ret_error);
    if (!failed) failed = read_routes(transaction, snapshot, ret_error);
    if (!failed) failed = read_replicas(transaction, snapshot, ret_error);
    if (!failed) failed = read_names(transaction, snapshot, ret_error);
    if (!failed) failed = read_collections(transaction, snapshot, ret_error);
    if (!failed) failed = gateway_tokens_read(transaction, known, &snapshot->tokens, ret_error);
    if (failed) return ret_error ? error_wrap(ret_error, "read the routes") : failed;
    *ret_snapshot = TAKE(snapshot);
    return 0;
}

/* ---- in use -------------------------------------------------------------- */

uint64_t gateway_routes_lowest(const struct gateway_routes *routes) {
    return routes->oldest ? routes->oldest->generation : 0;
}

static void tell_use(struct gateway_routes *routes) {
    if (!routes->current) return;
    routes->binder.use_changed(routes->binder.context, routes->current->generation, gateway_routes_lowest(routes));
}

bool gateway_routes_install(struct gateway_routes *routes, struct gateway_snapshot *snapshot) {
    struct gateway_snapshot *before = routes->current;
    if (before && snapshot->generation <= before->generation) {
        gateway_snapshot_free(snapshot);
        return false;
    }
    snapshot->owner = routes;
    snapshot->references = 1;
    if (before && before->tokens && snapshot->tokens) gateway_tokens_carry_over(snapshot->tokens, before->tokens);
    struct gateway_route *route, *next;
    HASH_ITER(hh, snapshot->routes, route, next) {
        if (!route->name) route->name = text_copy(route->deployment_id);
        routes->binder.bind(routes->binder.context, route);
    }
    struct gateway_collection_name *collection, *next_collection;
    HASH_ITER(hh, snapshot->collections, collection, next_collection) {
        routes->binder.bind_collection(routes->binder.context, collection);
    }
    snapshot->older = before;
    if (before) before->newer = snapshot;
    if (!routes->oldest) routes->oldest = snapshot;
    routes->current = snapshot;
    /* Giving the one before up tells the new generation as well, unless requests hold it. */
    uint64_t lowest = gateway_routes_lowest(routes);
    if (before) gateway_snapshot_release(before);
    if (lowest == gateway_routes_lowest(routes)) tell_use(routes);
    return true;
}

struct gateway_snapshot *gateway_routes_take(struct gateway_routes *routes) {
    if (routes->current) routes->current->references++;
    return routes->current;
}

void gateway_snapshot_release(struct gateway_snapshot *snapshot) {
    assert(snapshot->references > 0);
    if (--snapshot->references) return;
    struct gateway_routes *routes = snapshot->owner;
    bool was_oldest = routes->oldest == snapshot;
    if (was_oldest) routes->oldest = snapshot->newer;
    if (snapshot->older) snapshot->older->newer = snapshot->newer;
    if (snapshot->newer) snapshot->newer->older = snapshot->older;
    if (routes->current == snapshot) routes->current = NULL;
    gateway_snapshot_free(snapshot);
    if (was_oldest) tell_use(routes);
}

void gateway_routes_close(struct gateway_routes *routes) {
    struct gateway_snapshot *current = routes->current;
    routes->current = NULL;
    if (current) gateway_snapshot_release(current);
}
