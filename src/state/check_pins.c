/* Pins against what holds them (S6). A pin too many does no harm and goes at the next start; one that is missing lets
 * go what is in use. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "state/check-internal.h"

#define NO_TASK "NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = p.task_id AND t.status IN ('pending', 'processing'))"

static int take_stale(void *context, struct store_rows *rows, struct error **ret_error) {
    (void)ret_error;
    _cleanup_free_ char *subject = text_format("pin of %s", store_text(rows, 0));
    check_find(context, STATE_NOTE, subject, "the next start of the service removes it",
               "%s holds it, which is not there any more", store_text(rows, 1));
    return 0;
}

static int take_unpinned(void *context, struct store_rows *rows, struct error **ret_error) {
    (void)ret_error;
    const char *name = store_text(rows, 0);
    _cleanup_free_ char *subject = text_format("deployment %s", name);
    _cleanup_free_ char *advice = text_format("deploy it anew before the service is restarted (slipway update %s URI), "
                                              "or restore a backup",
                                              name);
    check_find(context, STATE_FAULT, subject, advice,
               "the pin is missing that keeps the package sha256:%s for its revision %lld: it can be deleted while it "
               "is in use",
               store_text(rows, 2), (long long)store_number(rows, 1));
    return 0;
}

static int take_lost_route(void *context, struct store_rows *rows, struct error **ret_error) {
    (void)ret_error;
    _cleanup_free_ char *subject = text_format("route of deployment %s", store_text(rows, 0));
    check_find(context, STATE_FAULT, subject, "restore a backup", "it leads to a revision %lld that is not there",
               (long long)store_number(rows, 1));
    return 0;
}

int check_pins(struct checking *checking, struct error **ret_error) {
    struct store_transaction *tx = checking->cut->tx;
    int result = state_each_row(
        tx,
        "SELECT p.subject, p.holder FROM pins p WHERE " NO_TASK " AND (substr(p.holder, 1, 5) = 'task:' OR "
        "(substr(p.holder, 1, 9) = 'revision:' AND NOT EXISTS (SELECT 1 FROM revisions v JOIN deployments d ON d.id = "
        "v.deployment_id WHERE 'revision:' || v.deployment_id || '/' || v.number = p.holder AND d.status <> "
        "'inactive')) OR (substr(p.holder, 1, 11) = 'collection:' AND NOT EXISTS (SELECT 1 FROM collections c WHERE "
        "c.id = substr(p.holder, 12, 36))))",
        take_stale, checking, ret_error);
    if (!result)
        result = state_each_row(
            tx,
            "SELECT d.name, r.number, r.package_digest FROM deployments d JOIN revisions r ON r.deployment_id = d.id "
            "AND r.number = d.serving_revision WHERE d.status IN ('active', 'updating', 'failed') AND r.package_digest "
            "IS NOT NULL AND NOT EXISTS (SELECT 1 FROM pins p WHERE p.subject = 'package:' || r.package_digest AND "
            "p.holder = 'revision:' || r.deployment_id || '/' || r.number)",
            take_unpinned, checking, ret_error);
    if (!result)
        result =
            state_each_row(tx,
                           "SELECT deployment_id, revision FROM routes r WHERE NOT EXISTS (SELECT 1 FROM revisions "
                           "v WHERE v.deployment_id = r.deployment_id AND v.number = r.revision)",
                           take_lost_route, checking, ret_error);
    return result;
}
