/* Answers without an end: `?follow=true` on events and logs (api_follow.c runs them, follow_events.c and follow_logs.c
 * read what is followed).
 *
 * A follow goes round after round. One round, on libuv's pool, reads what is new from where the one before stopped and
 * appends it as lines of NDJSON; the loop thread then sends them. The next round comes when there was more at hand and
 * the client has room, or when something may be new: events after a commit (api_changed()), logs when inotify tells
 * that a file in the log folder changed. So nothing is asked while nothing happens, and what a slow client has not read
 * yet stays in the database and in the files: a follow holds one round's lines and a position, however far behind it
 * is.
 */
#pragma once
#include "base/buffer.h"
#include "controller/api.h"

#define FOLLOW_ROUND_BYTES 65536u /* about what one round appends at most */

struct follow;

struct follow_source {
    bool reads_logs; /* inotify wakes it, too */
    /* Appends whole lines; *ret_more: it stopped before it had read all. On the pool. Negative: the answer is broken
     * off. */
    int (*read)(struct follow *follow, struct api_call *call, struct buffer *out, bool *ret_more,
                struct error **ret_error);
    void (*free)(struct follow *follow);
};

/* The first member of what each source keeps. */
struct follow {
    const struct follow_source *source;
    char *position; /* X-Slipway-Position of the answer, or NULL */
    bool record_changed; /* something was committed since the last round */
    bool is_over; /* nothing can come any more: the answer ends when this round's lines are sent */

    struct buffer out; /* below: api_follow.c */
    bool more, is_running, is_full;
    uint64_t seen_changes, seen_log_changes, spoken_ms;
    struct api_call *call;
    struct follow *next;
};

/* Whether the call asks for one; CONFIGURATION when follow is neither true nor false. */
int follow_is_asked(const struct api_call *call, bool *ret_asked, struct error **ret_error);
/* Makes the call one that follows (takes `follow`) and reads its first round; every further round is this, too. On the
 * pool. */
int follow_begin(struct api_call *call, struct follow *follow, struct error **ret_error);
int follow_round(struct api_call *call, struct error **ret_error);

/* ---- the loop's side (api_follow.c) ---- */

struct follows;
/* `run` has a call's handler run on the pool; follows_take() is called when it has. */
struct follows *follows_new(struct controller *controller, void (*run)(struct api_call *call));
/* A round is done: sends, and decides what is next. Takes the call; `end` frees it once its request has ended. */
void follows_take(struct follows *follows, struct api_call *call, void (*end)(struct api_call *call));
/* Something was committed. */
void follows_look_again(struct follows *follows);
void follows_writable(struct follows *follows, struct api_call *call);
void follows_gone(struct follows *follows, struct api_call *call, void (*end)(struct api_call *call));
void follows_close(struct follows *follows);
void follows_free(struct follows *follows);
void follow_free(struct follow *follow); /* NULL is fine */

/* ---- what is followed ---- */

/* deployment_id NULL: all of the service. */
int follow_events(struct api_call *call, const char *deployment_id, struct error **ret_error);
int follow_logs(struct api_call *call, const char *deployment_id, struct error **ret_error);
/* One event as an object; the columns of EVENT_COLUMNS. */
#define EVENT_COLUMNS                                                                                                  \
    "id, at, kind, message, task_id, data_json, deployment_id, "                                                       \
    "(SELECT name FROM deployments d WHERE d.id = events.deployment_id)"
void event_render(yyjson_mut_doc *document, yyjson_mut_val *object, struct store_rows *rows, bool names_deployment);
/* One line of a replica's log as an object: at where the line begins with a time. Makes the line UTF-8. */
void log_line_render(yyjson_mut_doc *document, yyjson_mut_val *object, const char *replica_id, int64_t revision,
                     char *line);
/* Appends the document as a line. */
void follow_append(struct buffer *out, yyjson_mut_doc *document);
