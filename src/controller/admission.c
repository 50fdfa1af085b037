/* Admission (S7): does it fit into the node's memory? Every row of the table replicas is a reservation. Warm replicas
 * do not count against a newcomer: they are what is stopped to make room.
 *
 * What one replica is reckoned to need: the most that a replica of the same package was seen to use, and for a package
 * that was never seen 64 MiB (runtime, its arenas, threads) + 2 × the package's size (the file as it is read, and the
 * weights as the session lays them out). resource_allocation.memory, when given, is the reservation and the process's
 * limit; less than the estimate is refused, because such a replica would only be killed later.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"

#define RUNTIME_BYTES (64ull << 20)

uint64_t admission_estimate(uint64_t size_bytes, uint64_t seen_bytes) {
    if (seen_bytes) return seen_bytes;
    if (size_bytes > (UINT64_MAX >> 2)) return UINT64_MAX >> 1;
    return RUNTIME_BYTES + 2 * size_bytes;
}

struct package_memory {
    uint64_t size, seen, estimate;
};

static int load_package_memory(struct store_transaction *tx, const char *digest, struct package_memory *ret_memory,
                               struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error, "SELECT size_bytes, seen_memory_bytes FROM packages WHERE digest = ?", "t",
                    digest ? digest : "");
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    if (!result)
        return error_set(ret_error, ERROR_DEPLOYMENT, "there is no package %s to reckon memory for",
                         digest ? digest : "");
    ret_memory->size = (uint64_t)store_number(rows, 0);
    ret_memory->seen = (uint64_t)store_number(rows, 1);
    ret_memory->estimate = admission_estimate(ret_memory->size, ret_memory->seen);
    return 0;
}

static char *explain_need(const struct package_memory *memory, int64_t given_bytes, int64_t count) {
    _cleanup_free_ char *need = text_size(given_bytes ? (uint64_t)given_bytes : memory->estimate);
    _cleanup_free_ char *size = text_size(memory->size);
    const char *many = count == 1 ? "replica" : "replicas";
    if (given_bytes)
        return text_format("%s for each of %lld %s (resource_allocation.memory)", need, (long long)count, many);
    if (memory->seen)
        return text_format("%s for each of %lld %s (the most that this model was seen to use)", need, (long long)count,
                           many);
    return text_format("%s for each of %lld %s (64 MiB + 2 × %s of model)", need, (long long)count, many, size);
}

static int check_given(const struct package_memory *memory, int64_t given_bytes, struct error **ret_error) {
    if (!given_bytes || (uint64_t)given_bytes >= memory->estimate) return 0;
    _cleanup_free_ char *given = text_size((uint64_t)given_bytes);
    _cleanup_free_ char *estimate = text_size(memory->estimate);
    return error_set(
        ret_error, ERROR_REFUSED,
        "resource_allocation.memory of %s (%lld bytes) is less than the %s (%llu bytes) that a replica of this model "
        "%s: give it more, or leave it out",
        given, (long long)given_bytes, estimate, (unsigned long long)memory->estimate,
        memory->seen ? "was seen to use" : "is reckoned to need");
}

int admission_check_with(struct controller *controller, struct store_transaction *tx, const char *package_digest,
                         int64_t memory_bytes, int64_t count, uint64_t spare_bytes, struct admission *ret_admission,
                         struct error **ret_error) {
    struct package_memory memory = {0};
    int64_t reserved = 0;
    uint64_t budget = 0;
    _cleanup_free_ char *source = NULL;
    int result = load_package_memory(tx, package_digest, &memory, ret_error);
    if (result < 0 || (result = check_given(&memory, memory_bytes, ret_error)) < 0 ||
        (result = controller->target_ops->budget(controller->target, &budget, &source, ret_error)) < 0 ||
        (result = store_ask_number(tx, &reserved, ret_error,
                                   "SELECT coalesce(sum(reserved_bytes), 0) FROM replicas WHERE state <> 'warm'", "")) <
            0)
        return result;
    uint64_t taken = (uint64_t)reserved > spare_bytes ? (uint64_t)reserved - spare_bytes : 0;
    uint64_t free_bytes = budget > taken ? budget - taken : 0;
    uint64_t needed = memory_bytes ? (uint64_t)memory_bytes : memory.estimate;
    _cleanup_free_ char *need = explain_need(&memory, memory_bytes, count);
    _cleanup_free_ char *free_text = text_size(free_bytes), *budget_text = text_size(budget);
    _cleanup_free_ char *explanation = text_format("%s; %s of %s%s%s%s are free", need, free_text, budget_text,
                                                   source ? " (" : "", source ? source : "", source ? ")" : "");
    if (count > 0 && needed > free_bytes / (uint64_t)count)
        return error_set(ret_error, ERROR_REFUSED, "not enough memory: %s", explanation);
    *ret_admission = (struct admission){
        .needed_bytes = needed, .free_bytes = free_bytes, .budget_bytes = budget, .explanation = TAKE(explanation)};
    return 0;
}

int admission_check(struct controller *controller, struct store_transaction *tx, const char *package_digest,
                    int64_t memory_bytes, int64_t count, struct admission *ret_admission, struct error **ret_error) {
    return admission_check_with(controller, tx, package_digest, memory_bytes, count, 0, ret_admission, ret_error);
}

int admission_leaving(struct store_transaction *tx, uint64_t *ret_bytes, struct error **ret_error) {
    int64_t bytes = 0;
    int result = store_ask_number(
        tx, &bytes, ret_error,
        "SELECT coalesce(sum(reserved_bytes), 0) FROM replicas WHERE state IN ('draining', 'stopping')", "");
    if (result >= 0) *ret_bytes = (uint64_t)bytes;
    return result < 0 ? result : 0;
}

/* ---- eviction ---- */

struct warm_set {
    char *deployment_id, *name;
    int64_t revision, bytes;
};

static void warm_set_clear(struct warm_set *set) {
    free(set->deployment_id);
    free(set->name);
}

/* The set whose window ends first: 1, or 0 when nothing is warm. */
static int find_warm_set(struct store_transaction *tx, struct warm_set *ret_set, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error,
                    "SELECT r.deployment_id, r.revision, sum(r.reserved_bytes), d.name FROM replicas r "
                    "JOIN deployments d ON d.id = r.deployment_id WHERE r.state = 'warm' "
                    "GROUP BY r.deployment_id, r.revision, d.name ORDER BY min(r.warm_until), r.deployment_id LIMIT 1",
                    "");
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    *ret_set = (struct warm_set){
        .deployment_id = store_text_copy(rows, 0),
        .revision = store_number(rows, 1),
        .bytes = store_number(rows, 2),
        .name = store_text_copy(rows, 3),
    };
    return 1;
}

static int end_retire_task(struct store_transaction *tx, const struct warm_set *set, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(
        tx, &rows, ret_error,
        "SELECT id FROM tasks WHERE kind = 'retire' AND status = 'pending' AND deployment_id = ? AND revision = ?",
        "ti", set->deployment_id, set->revision);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    _cleanup_free_ char *id = store_text_copy(rows, 0);
    return task_set_status(tx, id, TASK_DONE, "stopped early: its memory was needed", NULL, ret_error);
}

static int evict_set(struct store_transaction *tx, const struct warm_set *set, const char *task_id,
                     struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error,
                           "UPDATE replicas SET state = 'stopping', task_id = ? "
                           "WHERE state = 'warm' AND deployment_id = ? AND revision = ?",
                           "tti", task_id, set->deployment_id, set->revision);
    if (result < 0 || (result = end_retire_task(tx, set, ret_error)) < 0) return result;
    _cleanup_free_ char *words =
        text_format("revision %lld is kept warm no longer: its memory was needed (a rollback starts it anew)",
                    (long long)set->revision);
    result = event_add(tx, "replica", set->deployment_id, task_id, words, NULL, ret_error);
    if (result < 0) return result;
    /* Only where it hides nothing. */
    return store_run(tx, NULL, ret_error,
                     "UPDATE deployments SET message = ? WHERE id = ? AND status = 'active' AND message IS NULL", "tt",
                     words, set->deployment_id);
}

int admission_evict(struct controller *controller, struct store_transaction *tx, const char *task_id,
                    uint64_t budget_bytes, char **ret_note, struct error **ret_error) {
    (void)controller;
    _cleanup_free_ char *note = NULL;
    for (;;) {
        int64_t needed = 0;
        int result = store_ask_number(
            tx, &needed, ret_error,
            "SELECT coalesce(sum(reserved_bytes), 0) FROM replicas WHERE state NOT IN ('stopping', 'draining')", "");
        if (result < 0) return result;
        if ((uint64_t)needed <= budget_bytes) break;
        __attribute__((cleanup(warm_set_clear))) struct warm_set set = {0};
        if ((result = find_warm_set(tx, &set, ret_error)) < 0) return result;
        if (!result) break;
        if ((result = evict_set(tx, &set, task_id, ret_error)) < 0) return result;
        char *more = text_format("%s%srevision %lld of %s was stopped early to make room", note ? note : "",
                                 note ? "; " : "", (long long)set.revision, set.name);
        free(note);
        note = more;
    }
    *ret_note = TAKE(note);
    return 0;
}
