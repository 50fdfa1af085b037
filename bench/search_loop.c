/* search_loop: exact search in vector indexes of the embedded folder, and the floor under it: reading that much memory.
 *
 *     search_loop ROWS QUERIES DIMENSION LIMIT FOLDER
 *
 * ROWS and QUERIES are files of float32, DIMENSION in each row. Two indexes are made of the rows in FOLDER, with and
 * without int8 codes. Then, for each line "KIND NUMBER" on standard input, it does one search for that query, on one
 * thread, and answers with a line of JSON: cpu_seconds and seconds (monotonic clock) that it took, and the hits, as
 * [row, score]. KIND is float32 or int8; or read, which goes over the rows once, in plain memory on huge pages, and
 * adds up what it finds: no search that looks at every row can be faster. The first line that it prints, by itself, has
 * the names of the kernels and the bytes of a row of each kind.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "vector/vector-internal.h"

#define HITS_MAXIMUM 1000

struct rows {
    float *numbers;
    size_t count;
};

enum kind { KIND_READ, KIND_FLOAT32, KIND_INT8, KINDS };
static const char *const kind_names[KINDS] = {"read", "float32", "int8"};

struct loop {
    size_t dimension, limit;
    struct rows rows, queries;
    struct vector_view *views[KINDS];
    struct vector_hit hits[HITS_MAXIMUM];
    volatile float sum; /* of what was read: the optimiser must not drop it */
};

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void fail(const char *what, struct error *error) {
    fprintf(stderr, "search_loop: %s: %s\n", what, error ? error_text(error) : "");
    exit(1);
}

static struct rows read_rows(const char *path, size_t dimension) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status)) fail(path, NULL);
    size_t size = (size_t)status.st_size;
    struct rows rows = {aligned_alloc(2 << 20, (size + (2 << 20) - 1) >> 21 << 21), size / sizeof(float) / dimension};
    if (rows.numbers) madvise(rows.numbers, size, MADV_HUGEPAGE);
    if (!rows.numbers || !rows.count || fread(rows.numbers, 1, size, file) != size) fail(path, NULL);
    fclose(file);
    return rows;
}

/* ---- the floor ---- */

/* As fast as memory can be read by loads of this width: eight sums, so that no addition waits for another. */
#ifdef __x86_64__
#include <immintrin.h>
__attribute__((target("avx512f"))) static float read_avx512(const float *numbers, size_t count) {
    __m512 sums[8];
    for (size_t i = 0; i < 8; i++) sums[i] = _mm512_setzero_ps();
    for (size_t at = 0; at + 128 <= count; at += 128)
        for (size_t i = 0; i < 8; i++) sums[i] = _mm512_add_ps(sums[i], _mm512_load_ps(numbers + at + 16 * i));
    for (size_t i = 1; i < 8; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
    return _mm512_reduce_add_ps(sums[0]);
}

__attribute__((target("avx2"))) static float read_avx2(const float *numbers, size_t count) {
    __m256 sums[8];
    for (size_t i = 0; i < 8; i++) sums[i] = _mm256_setzero_ps();
    for (size_t at = 0; at + 64 <= count; at += 64)
        for (size_t i = 0; i < 8; i++) sums[i] = _mm256_add_ps(sums[i], _mm256_load_ps(numbers + at + 8 * i));
    for (size_t i = 1; i < 8; i++) sums[0] = _mm256_add_ps(sums[0], sums[i]);
    return sums[0][0] + sums[0][5];
}
#endif

static float read_all(const float *numbers, size_t count) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) return read_avx512(numbers, count);
    if (__builtin_cpu_supports("avx2")) return read_avx2(numbers, count);
#endif
    float sums[16] = {0};
    for (size_t at = 0; at + 16 <= count; at += 16)
        for (size_t i = 0; i < 16; i++) sums[i] += numbers[at + i];
    return sums[0] + sums[15];
}

/* ---- the index ---- */

static void fill(struct vector_writer *writer, const struct loop *loop) {
    struct error *error = NULL;
    uint64_t durable;
    for (size_t row = 0; row < loop->rows.count; row++)
        if (folder_vectors.append(writer, row + 1, loop->rows.numbers + row * loop->dimension, &error) < 0)
            fail("append", error);
    folder_vectors.publish(writer, loop->rows.count, loop->rows.count);
    if (folder_vectors.sync(writer, &durable, &error) < 0) fail("sync", error);
}

/* Out of the kernel's cache, as they are after the machine was started: then the first search reads them from the disk.
 */
static void forget_files(const char *folder) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        char *path = fs_join(folder, entry->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        if (file >= 0) close(file);
        free(path);
    }
    if (entries) closedir(entries);
}

static struct vector_view *make_index(const struct loop *loop, const char *parent, enum kind kind) {
    struct vector_spec spec = {"index", "log", "digest", (uint32_t)loop->dimension, kind == KIND_INT8};
    struct vector_writer *writer;
    struct vector_reader *reader;
    struct vector_view *view;
    struct vector_state state;
    struct error *error = NULL;
    char *folder = fs_join(parent, kind_names[kind]);
    if (folder_vectors.create(folder, &spec, &error) < 0) fail("create", error);
    if (folder_vectors.open_writer(folder, &spec, 0, &writer, &state, &error) < 0) fail("open", error);
    fill(writer, loop);
    folder_vectors.close_writer(writer);
    forget_files(folder);
    if (folder_vectors.open_reader(folder, &spec, &reader, &error) < 0) fail("open", error);
    if (folder_vectors.look(reader, UINT64_MAX, &view, &error) < 0) fail("look", error);
    free(folder);
    return view;
}

/* ---- the loop ---- */

/* How many hits. */
static size_t search(struct loop *loop, enum kind kind, const float *query) {
    struct vector_query what = {.vector = query, .limit = loop->limit};
    if (kind != KIND_READ) return folder_vectors.search(loop->views[kind], &what, loop->hits);
    loop->sum += read_all(loop->rows.numbers, loop->rows.count * loop->dimension);
    return 0;
}

static void answer(struct loop *loop, enum kind kind, size_t number) {
    const float *query = loop->queries.numbers + number % loop->queries.count * loop->dimension;
    double begin = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    size_t count = search(loop, kind, query);
    printf("{\"cpu_seconds\": %.9f, \"seconds\": %.9f, \"hits\": [", now(CLOCK_PROCESS_CPUTIME_ID) - cpu,
           now(CLOCK_MONOTONIC) - begin);
    for (size_t i = 0; i < count; i++)
        printf("%s[%llu, %.9g]", i ? ", " : "", (unsigned long long)loop->hits[i].born - 1,
               (double)loop->hits[i].score);
    printf("]}\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: search_loop ROWS QUERIES DIMENSION LIMIT FOLDER\n");
        return 2;
    }
    static struct loop loop;
    loop.dimension = (size_t)atoi(argv[3]);
    loop.limit = (size_t)atoi(argv[4]) < HITS_MAXIMUM ? (size_t)atoi(argv[4]) : HITS_MAXIMUM;
    loop.rows = read_rows(argv[1], loop.dimension);
    loop.queries = read_rows(argv[2], loop.dimension);
    for (enum kind kind = KIND_FLOAT32; kind < KINDS; kind++) loop.views[kind] = make_index(&loop, argv[5], kind);
    printf("{\"kernels\": \"%s\", \"float32\": %zu, \"int8\": %zu}\n", vector_kernels_best()->name,
           loop.dimension * sizeof(float), loop.dimension);
    fflush(stdout);
    char name[16];
    for (unsigned number; scanf("%15s %u", name, &number) == 2;)
        for (enum kind kind = 0; kind < KINDS; kind++)
            if (!strcmp(name, kind_names[kind])) answer(&loop, kind, number);
    return 0;
}
