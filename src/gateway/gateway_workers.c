#include "gateway/gateway_workers-internal.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/memory.h"

#define STACK_BYTES (1024u * 1024)

struct list {
    struct gateway_work *first, **end;
};

struct gateway_workers {
    uv_async_t returned;
    pthread_mutex_t mutex;
    pthread_cond_t has_work;
    struct list waiting, done; /* under the mutex */
    bool ends; /* under the mutex */
    size_t busy; /* the loop's */
    bool is_closing; /* the loop's */
    size_t thread_count;
    pthread_t threads[];
};

static void append(struct list *list, struct gateway_work *work) {
    work->next = NULL;
    *list->end = work;
    list->end = &work->next;
}

static struct gateway_work *take_first(struct list *list) {
    struct gateway_work *work = list->first;
    list->first = work->next;
    if (!list->first) list->end = &list->first;
    return work;
}

/* ---- on a worker ---------------------------------------------------------- */

static void *run(void *context) {
    struct gateway_workers *workers = context;
    pthread_mutex_lock(&workers->mutex);
    for (;;) {
        while (!workers->waiting.first && !workers->ends) pthread_cond_wait(&workers->has_work, &workers->mutex);
        if (!workers->waiting.first) break;
        struct gateway_work *work = take_first(&workers->waiting);
        pthread_mutex_unlock(&workers->mutex);
        work->run(work);
        pthread_mutex_lock(&workers->mutex);
        bool was_empty = !workers->done.first;
        append(&workers->done, work);
        if (was_empty) uv_async_send(&workers->returned);
    }
    pthread_mutex_unlock(&workers->mutex);
    return NULL;
}

/* ---- on the loop ---------------------------------------------------------- */

static void on_closed(uv_handle_t *handle) {
    struct gateway_workers *workers = CONTAINER_OF((uv_async_t *)handle, struct gateway_workers, returned);
    pthread_mutex_destroy(&workers->mutex);
    pthread_cond_destroy(&workers->has_work);
    free(workers);
}

static void end_when_idle(struct gateway_workers *workers) {
    if (!workers->is_closing || workers->busy || uv_is_closing((uv_handle_t *)&workers->returned)) return;
    pthread_mutex_lock(&workers->mutex);
    workers->ends = true;
    pthread_cond_broadcast(&workers->has_work);
    pthread_mutex_unlock(&workers->mutex);
    for (size_t i = 0; i < workers->thread_count; i++) pthread_join(workers->threads[i], NULL);
    uv_close((uv_handle_t *)&workers->returned, on_closed);
}

static void on_returned(uv_async_t *returned) {
    struct gateway_workers *workers = CONTAINER_OF(returned, struct gateway_workers, returned);
    pthread_mutex_lock(&workers->mutex);
    struct gateway_work *work = workers->done.first;
    workers->done = (struct list){NULL, &workers->done.first};
    pthread_mutex_unlock(&workers->mutex);
    while (work) {
        struct gateway_work *next = work->next;
        work->done(work);
        workers->busy--; /* after what it puts itself */
        work = next;
    }
    end_when_idle(workers);
}

struct gateway_workers *gateway_workers_new(uv_loop_t *loop, size_t threads) {
    struct gateway_workers *workers = mem_zeroed(1, sizeof *workers + threads * sizeof(pthread_t));
    pthread_attr_t attributes;
    pthread_mutex_init(&workers->mutex, NULL);
    pthread_cond_init(&workers->has_work, NULL);
    workers->waiting.end = &workers->waiting.first;
    workers->done.end = &workers->done.first;
    uv_async_init(loop, &workers->returned, on_returned);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (size_t i = 0; i < threads; i++) {
        if (pthread_create(&workers->threads[workers->thread_count], &attributes, run, workers)) break;
        workers->thread_count++;
    }
    pthread_attr_destroy(&attributes);
    if (!workers->thread_count) abort(); /* as when memory is gone: a gateway cannot do with none */
    return workers;
}

void gateway_workers_put(struct gateway_workers *workers, struct gateway_work *work) {
    assert(!uv_is_closing((uv_handle_t *)&workers->returned));
    workers->busy++;
    pthread_mutex_lock(&workers->mutex);
    append(&workers->waiting, work);
    pthread_cond_signal(&workers->has_work);
    pthread_mutex_unlock(&workers->mutex);
}

size_t gateway_workers_busy(const struct gateway_workers *workers) {
    return workers->busy;
}

void gateway_workers_close(struct gateway_workers *workers) {
    workers->is_closing = true;
    end_when_idle(workers);
}
