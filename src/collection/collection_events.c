/* The outbox: each event stands in the transaction of what it tells; the controller copies them by number (S4). */
#include <stdarg.h>

#include "base/clock.h"
#include "collection/collection-internal.h"

#define EVENTS_KEPT 10000 /* the controller is never so far behind; it cannot delete what it has copied (S3) */

int collection_add_event(struct store_transaction *tx, const char *task_id, const char *kind, const char *data_json,
                         struct error **ret_error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *message = text_format_list(format, arguments);
    va_end(arguments);
    int result = store_run(tx, NULL, ret_error,
                           "INSERT INTO outbox (at, task_id, kind, message, data_json) VALUES (?, ?, ?, ?, ?)", "itttt",
                           clock_wall_ms(), task_id, kind, message, data_json);
    if (result < 0) return result;
    return store_run(tx, NULL, ret_error, "DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - ?", "i",
                     (int64_t)EVENTS_KEPT);
}

void collection_events_free(struct collection_event *events, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(events[i].task_id);
        free(events[i].kind);
        free(events[i].message);
        free(events[i].data_json);
    }
    free(events);
}

int collection_list_events(struct collection_read *read, int64_t after, size_t limit,
                           struct collection_event **ret_events, size_t *ret_count, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(read->tx, &rows, ret_error,
                    "SELECT id, at, task_id, kind, message, data_json FROM outbox WHERE id > ? ORDER BY id LIMIT ?",
                    "ii", after, (int64_t)limit);
    if (result < 0) return result;
    struct collection_event *events = NULL;
    size_t count = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        events = mem_resize(events, count + 1, sizeof *events);
        events[count++] = (struct collection_event){
            .id = store_number(rows, 0),
            .at = store_number(rows, 1),
            .task_id = store_text_copy(rows, 2),
            .kind = store_text_copy(rows, 3),
            .message = store_text_copy(rows, 4),
            .data_json = store_text_copy(rows, 5),
        };
    }
    if (result < 0) {
        collection_events_free(events, count);
        return result;
    }
    *ret_events = events;
    *ret_count = count;
    return 0;
}
