/* sqlite_loop: durable upserts by SQLite itself, the floor for writing documents.
 *
 *     sqlite_loop FILE BATCH SECONDS DOCUMENTS PAYLOAD_BYTES
 *
 * One table with a primary key on the id; WAL and synchronous=FULL, as the service has them; BATCH upserts a
 * transaction by one prepared statement, each of a random one of DOCUMENTS ids. No HTTP, no JSON, no log, no index.
 * Prints one line of JSON: upserts, seconds (monotonic clock) and cpu_seconds (of the process).
 */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct loop {
    sqlite3 *database;
    sqlite3_stmt *begin, *upsert, *commit;
    uint64_t random, seq;
    long batch, documents;
    char *text;
};

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void check(struct loop *loop, int result, int wanted, const char *what) {
    if (result == wanted) return;
    fprintf(stderr, "sqlite_loop: %s: %s\n", what, sqlite3_errmsg(loop->database));
    exit(1);
}

static void prepare(struct loop *loop, const char *sql, sqlite3_stmt **ret_statement) {
    check(loop, sqlite3_prepare_v2(loop->database, sql, -1, ret_statement, NULL), SQLITE_OK, sql);
}

static void step(struct loop *loop, sqlite3_stmt *statement, const char *what) {
    check(loop, sqlite3_step(statement), SQLITE_DONE, what);
    sqlite3_reset(statement);
}

static uint64_t next_random(struct loop *loop) { /* xorshift64 */
    loop->random ^= loop->random << 13;
    loop->random ^= loop->random >> 7;
    return loop->random ^= loop->random << 17;
}

static void run_once(struct loop *loop) {
    char id[24];
    step(loop, loop->begin, "begin");
    for (long i = 0; i < loop->batch; i++) {
        snprintf(id, sizeof id, "d%07ld", (long)(next_random(loop) % (uint64_t)loop->documents));
        sqlite3_bind_text(loop->upsert, 1, id, -1, SQLITE_TRANSIENT);
        sqlite3_bind_text(loop->upsert, 2, loop->text, -1, SQLITE_STATIC);
        sqlite3_bind_int64(loop->upsert, 3, (sqlite3_int64)++loop->seq);
        step(loop, loop->upsert, "upsert");
    }
    step(loop, loop->commit, "commit");
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: sqlite_loop FILE BATCH SECONDS DOCUMENTS PAYLOAD_BYTES\n");
        return 2;
    }
    struct loop loop = {.random = 88172645463325252u, .batch = atol(argv[2]), .documents = atol(argv[4])};
    size_t size = (size_t)atol(argv[5]);
    loop.text = malloc(size + 1);
    memset(loop.text, 'x', size);
    loop.text[size] = 0;
    check(&loop, sqlite3_open(argv[1], &loop.database), SQLITE_OK, "open");
    check(&loop,
          sqlite3_exec(loop.database,
                       "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                       "CREATE TABLE documents (id TEXT PRIMARY KEY, text TEXT NOT NULL, seq INTEGER NOT NULL) STRICT",
                       NULL, NULL, NULL),
          SQLITE_OK, "make the table");
    prepare(&loop, "BEGIN IMMEDIATE", &loop.begin);
    prepare(&loop, "COMMIT", &loop.commit);
    prepare(
        &loop,
        "INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET text = excluded.text, seq = excluded.seq",
        &loop.upsert);
    double seconds = atof(argv[3]);
    for (double end = now(CLOCK_MONOTONIC) + seconds / 10; now(CLOCK_MONOTONIC) < end;) run_once(&loop);
    uint64_t before = loop.seq;
    double begin = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    while (now(CLOCK_MONOTONIC) < begin + seconds) run_once(&loop);
    printf("{\"upserts\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", (unsigned long long)(loop.seq - before),
           now(CLOCK_MONOTONIC) - begin, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}
