/* A few threads that lend a hand to whoever searches. A job stands in the pool's list from when its caller begins until
 * the first of those who work on it finds nothing left to do. */
#include "base/memory.h"
#include "vector/vector-internal.h"

struct job {
    void (*work)(void *context);
    void *context;
    size_t helpers; /* threads of the pool that are in work() */
    bool is_listed;
    struct job *next;
};

struct vector_pool {
    pthread_mutex_t lock; /* guards all that follows, and the jobs */
    pthread_cond_t job_came, helper_left;
    struct job *jobs;
    bool ends;
    size_t thread_count;
    pthread_t threads[];
};

static void unlist(struct vector_pool *pool, struct job *job) {
    if (!job->is_listed) return;
    job->is_listed = false;
    struct job **at = &pool->jobs;
    while (*at != job) at = &(*at)->next;
    *at = job->next;
}

/* Behind all others, so that the next thread that is free helps another one first. */
static void list_last(struct vector_pool *pool, struct job *job) {
    struct job **at = &pool->jobs;
    while (*at) at = &(*at)->next;
    *at = job;
    job->next = NULL;
    job->is_listed = true;
}

static void help(struct vector_pool *pool, struct job *job) {
    unlist(pool, job);
    list_last(pool, job);
    job->helpers++;
    pthread_mutex_unlock(&pool->lock);
    job->work(job->context);
    pthread_mutex_lock(&pool->lock);
    unlist(pool, job);
    if (!--job->helpers) pthread_cond_broadcast(&pool->helper_left);
}

static void *run_thread(void *context) {
    struct vector_pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    while (!pool->ends) {
        if (pool->jobs)
            help(pool, pool->jobs);
        else
            pthread_cond_wait(&pool->job_came, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

void vector_pool_run(struct vector_pool *pool, void (*work)(void *context), void *context) {
    if (!pool || !pool->thread_count) {
        work(context);
        return;
    }
    struct job job = {.work = work, .context = context};
    pthread_mutex_lock(&pool->lock);
    list_last(pool, &job);
    pthread_cond_broadcast(&pool->job_came);
    pthread_mutex_unlock(&pool->lock);
    work(context);
    pthread_mutex_lock(&pool->lock);
    unlist(pool, &job);
    while (job.helpers) pthread_cond_wait(&pool->helper_left, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

struct vector_pool *vector_pool_new(size_t threads) {
    size_t helpers = threads > 1 ? threads - 1 : 0;
    struct vector_pool *pool = mem_zeroed(1, sizeof *pool + helpers * sizeof *pool->threads);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->job_came, NULL);
    pthread_cond_init(&pool->helper_left, NULL);
    while (pool->thread_count < helpers &&
           pthread_create(&pool->threads[pool->thread_count], NULL, run_thread, pool) == 0)
        pool->thread_count++; /* fewer than wanted: slower, nothing else */
    return pool;
}

void vector_pool_free(struct vector_pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->ends = true;
    pthread_cond_broadcast(&pool->job_came);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->thread_count; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->helper_left);
    pthread_cond_destroy(&pool->job_came);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
