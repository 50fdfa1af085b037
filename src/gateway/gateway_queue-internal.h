/* A queue of requests: first in, first out, with a ceiling, and any of them can leave from the middle (its client has
 * gone, its time is over). Entries live inside their owners; nothing is allocated. Loop thread only.
 *
 * One holds the requests that wait for a replica (a lane's), another all that have a deadline: since that is the same
 * span for every request, the order of arrival is the order of deadlines. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct gateway_queue_entry {
    struct gateway_queue_entry *previous, *next;
    struct gateway_queue *queue; /* NULL: in none */
};

struct gateway_queue {
    struct gateway_queue_entry *first, *last;
    size_t length;
    size_t maximum; /* 0: no ceiling */
};

/* At the end. False, with nothing changed, when the ceiling is reached. The entry must be in no queue. */
bool gateway_queue_push(struct gateway_queue *queue, struct gateway_queue_entry *entry);
/* At the front, above the ceiling too: for one that had its turn before. */
void gateway_queue_push_first(struct gateway_queue *queue, struct gateway_queue_entry *entry);
/* Takes it out of whichever queue it is in; nothing when it is in none. */
void gateway_queue_remove(struct gateway_queue_entry *entry);
