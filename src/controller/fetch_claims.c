#include "controller/fetch_claims.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

struct claim {
    char *key;
    char *task_id; /* the holder; NULL: nobody, the next one who looks has it */
    char *digest; /* of the package that the holder recorded */
    size_t waiting;
    struct claim *next;
};

struct fetch_claims {
    pthread_mutex_t mutex;
    struct claim *list;
};

struct fetch_claims *fetch_claims_new(void) {
    struct fetch_claims *claims = mem_new(struct fetch_claims);
    pthread_mutex_init(&claims->mutex, NULL);
    return claims;
}

static void free_claim(struct claim *claim) {
    free(claim->key);
    free(claim->task_id);
    free(claim->digest);
    free(claim);
}

void fetch_claims_free(struct fetch_claims *claims) {
    if (!claims) return;
    for (struct claim *claim = claims->list, *next; claim; claim = next) {
        next = claim->next;
        free_claim(claim);
    }
    pthread_mutex_destroy(&claims->mutex);
    free(claims);
}

/* ---- under the mutex ---- */

static struct claim *find_or_add(struct fetch_claims *claims, const char *key) {
    for (struct claim *claim = claims->list; claim; claim = claim->next)
        if (text_equal(claim->key, key)) return claim;
    struct claim *claim = mem_new(struct claim);
    *claim = (struct claim){.key = text_copy(key), .next = claims->list};
    claims->list = claim;
    return claim;
}

static void drop_unused(struct fetch_claims *claims) {
    for (struct claim **link = &claims->list; *link;) {
        struct claim *claim = *link;
        if (claim->task_id || claim->waiting) {
            link = &claim->next;
            continue;
        }
        *link = claim->next;
        free_claim(claim);
    }
}

/* What the run holds, but for `kept`, is nobody's any more. True when it held something. */
static bool let_go(struct fetch_claims *claims, const char *task_id, const char *digest, const struct claim *kept) {
    bool held = false;
    for (struct claim *claim = claims->list; claim; claim = claim->next) {
        if (claim == kept || !text_equal(claim->task_id, task_id)) continue;
        free(TAKE(claim->task_id));
        claim->digest = text_copy(digest);
        held = true;
    }
    return held;
}

/* 1: ours; 0: its package is there; -1: somebody is at it, *ret_holder. */
static int look(struct claim *claim, const char *task_id, char **ret_digest, char **ret_holder) {
    if (claim->digest) {
        *ret_digest = text_copy(claim->digest);
        return 0;
    }
    if (!claim->task_id) claim->task_id = text_copy(task_id);
    if (text_equal(claim->task_id, task_id)) return 1;
    *ret_holder = text_copy(claim->task_id);
    return -1;
}

/* ---- claiming ---- */

/* Looks once. A run that waits counts as waiting from its first look in vain to its last look. */
static int try_claim(struct step_run *run, const char *key, bool *waiting, char **ret_digest, char **ret_holder) {
    struct fetch_claims *claims = engine_fetch_claims(run->controller->engine);
    pthread_mutex_lock(&claims->mutex);
    struct claim *claim = find_or_add(claims, key);
    bool let_others = let_go(claims, run->task.id, NULL, claim);
    bool stops = atomic_load(&run->interrupted);
    int result = stops ? -1 : look(claim, run->task.id, ret_digest, ret_holder);
    bool waits = result < 0 && !stops;
    claim->waiting = claim->waiting - *waiting + waits;
    *waiting = waits;
    drop_unused(claims);
    pthread_mutex_unlock(&claims->mutex);
    if (let_others) engine_wake(run->controller->engine);
    return result;
}

int fetch_claim(struct step_run *run, const char *key, void (*on_wait)(struct step_run *run, const char *task_id),
                char **ret_digest, struct error **ret_error) {
    bool waiting = false, told = false;
    for (;;) {
        _cleanup_free_ char *holder = NULL;
        uint64_t version = engine_version(run->controller->engine);
        int result = try_claim(run, key, &waiting, ret_digest, &holder);
        if (result >= 0) return result;
        if (!waiting) return step_canceled(ret_error);
        if (on_wait && !told) on_wait(run, holder);
        told = true;
        engine_wait_change(run, version, STEP_NO_DEADLINE); /* the engine interrupts at the task's own */
    }
}

static void end_claim(struct step_run *run, const char *digest) {
    struct fetch_claims *claims = engine_fetch_claims(run->controller->engine);
    pthread_mutex_lock(&claims->mutex);
    bool held = let_go(claims, run->task.id, digest, NULL);
    drop_unused(claims);
    pthread_mutex_unlock(&claims->mutex);
    if (held) engine_wake(run->controller->engine);
}

void fetch_claim_finish(struct step_run *run, const char *digest) {
    end_claim(run, digest);
}

void fetch_claim_release(struct step_run *run) {
    end_claim(run, NULL);
}
