#include "gateway/gateway_queue-internal.h"

#include <assert.h>

bool gateway_queue_push(struct gateway_queue *queue, struct gateway_queue_entry *entry) {
    assert(!entry->queue);
    if (queue->maximum && queue->length >= queue->maximum) return false;
    *entry = (struct gateway_queue_entry){.previous = queue->last, .queue = queue};
    if (queue->last)
        queue->last->next = entry;
    else
        queue->first = entry;
    queue->last = entry;
    queue->length++;
    return true;
}

void gateway_queue_push_first(struct gateway_queue *queue, struct gateway_queue_entry *entry) {
    assert(!entry->queue);
    *entry = (struct gateway_queue_entry){.next = queue->first, .queue = queue};
    if (queue->first)
        queue->first->previous = entry;
    else
        queue->last = entry;
    queue->first = entry;
    queue->length++;
}

void gateway_queue_remove(struct gateway_queue_entry *entry) {
    struct gateway_queue *queue = entry->queue;
    if (!queue) return;
    if (entry->previous)
        entry->previous->next = entry->next;
    else
        queue->first = entry->next;
    if (entry->next)
        entry->next->previous = entry->previous;
    else
        queue->last = entry->previous;
    queue->length--;
    *entry = (struct gateway_queue_entry){0};
}
