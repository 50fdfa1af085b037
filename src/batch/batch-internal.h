/* What the files of batch/ share: places, the input as records, records as rows of tensors, chunks of rows, the output,
 * and the run that moves chunks between its three threads. */
#pragma once
#include <pthread.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/digest.h"
#include "batch/batch.h"
#include "http/http_client.h"

#define BATCH_RECORD_MAXIMUM ((size_t)4 << 20) /* bytes of a line or CSV record */
#define BATCH_CHUNK_BYTES ((size_t)8 << 20) /* of a request, about */
#define BATCH_ANSWER_MAXIMUM ((size_t)64 << 20)
#define BATCH_PART_BYTES ((int64_t)64 << 20)
#define BATCH_PART_MS (5u * 60 * 1000) /* a part ends at the latest then, so that little is done again after a kill */
#define BATCH_REJECTED_LISTED 10000 /* rejected rows of a job that are kept; all are counted */
#define BATCH_DETAIL_MAXIMUM 300
#define BATCH_RANK_MAXIMUM 8
#define BATCH_COLUMNS_MAXIMUM 4096 /* of a CSV file */

/* ---- places (batch_place.c) ---- */

/* Where a URI leads. */
struct batch_place {
    char *path; /* a file or folder: absolute; NULL: an object or prefix */
    char *bucket, *key; /* key of a prefix without the slash at its end */
};
void batch_place_clear(struct batch_place *place);
#define _cleanup_place_ __attribute__((cleanup(batch_place_clear)))
/* file:///path, /path, s3://bucket/key. CONFIGURATION that names `what`. */
int batch_place_parse(const char *uri, const char *what, struct batch_place *ret_place, struct error **ret_error);
/* Opens the file for reading: a regular one inside the roots, however its name leads there. */
int batch_place_open_file(const struct batch_access *access, const char *path, int *ret_descriptor,
                          struct error **ret_error);
/* Opens the folder inside the roots, and makes it (and those above it, but not the root) when `make`. 1 with a
 * descriptor; 0 when it is not there and is not to be made. */
int batch_place_open_folder(const struct batch_access *access, const char *path, bool make, int *ret_descriptor,
                            struct error **ret_error);

/* ---- the input's bytes (batch_source.c) ---- */

struct batch_source;
int batch_source_open(const struct batch_config *config, struct batch_source **ret_source, struct error **ret_error);
void batch_source_close(struct batch_source *source); /* NULL is fine */
const char *batch_source_identity(const struct batch_source *source);
uint64_t batch_source_size(const struct batch_source *source);
/* Exactly the bytes that are there, up to `size`. MODEL_REGISTRY when the input has changed. */
int batch_source_read(struct batch_source *source, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error);
/* MODEL_REGISTRY when the input is not what it was when it was opened. */
int batch_source_check(struct batch_source *source, struct error **ret_error);

/* ---- records (batch_reader.c) ---- */

struct batch_record {
    char *bytes; /* without its line end; may be written to; valid until the next one */
    size_t size;
    int64_t line; /* its first, from 1 */
    const char *fault; /* why it cannot be read: then it has no bytes */
};
/* Gives the next bytes; *ret_size 0 at the end. */
typedef int (*batch_read)(void *context, char *bytes, size_t size, size_t *ret_size, struct error **ret_error);
struct batch_reader {
    enum batch_format format;
    batch_read read;
    void *context;
    struct buffer window; /* what was read and is not consumed */
    size_t scanned; /* of the window, in search of the record's end */
    char scan_state; /* CSV: where in a field the scan stands */
    bool is_too_long, has_begun, has_ended;
    size_t last_size; /* of the record that was given last, with its line end: it goes when the next is asked for */
    int64_t offset, line; /* behind the record that was given last */
    int64_t lines; /* line ends seen in the record that is being looked for */
};
/* Begins at the offset, `line` lines down. A byte order mark at the beginning is passed over. */
void batch_reader_open(struct batch_reader *reader, enum batch_format format, int64_t offset, int64_t line,
                       batch_read read, void *context);
void batch_reader_close(struct batch_reader *reader);
/* 1 with the next record that is not blank, 0 at the end. */
int batch_reader_next(struct batch_reader *reader, struct batch_record *ret_record, struct error **ret_error);

/* ---- CSV (batch_csv.c) ---- */

struct batch_text {
    char *bytes;
    size_t size;
};
/* Where a scan stands in a record: the state behind the byte. '\n' may end the record when batch_csv_is_open() is
 * false. */
#define BATCH_CSV_BEGINS 0
char batch_csv_scan(char state, char byte);
bool batch_csv_is_open(char state); /* inside of quotes */
/* Cuts a record (RFC 4180) into fields, unquoted in place. NULL, or what is wrong with it. */
const char *batch_csv_split(char *bytes, size_t size, struct batch_text *fields, size_t maximum, size_t *ret_count);
/* Appends a field, in quotes where it needs them. */
void batch_csv_write(struct buffer *out, const char *bytes, size_t size);

/* ---- what a model takes and gives (batch_model.c) ---- */

enum batch_type {
    BATCH_BOOL,
    BATCH_UINT8,
    BATCH_UINT16,
    BATCH_UINT32,
    BATCH_UINT64,
    BATCH_INT8,
    BATCH_INT16,
    BATCH_INT32,
    BATCH_INT64,
    BATCH_FP32,
    BATCH_FP64,
    BATCH_BYTES,
    BATCH_TYPE_COUNT
};
extern const struct batch_type_row {
    const char *name;
    size_t size; /* 0: BYTES */
} batch_types[BATCH_TYPE_COUNT];
bool batch_type_parse(const char *name, enum batch_type *ret_type);

struct batch_tensor {
    char *name, *field;
    enum batch_type type;
    size_t rank; /* of a row */
    int64_t shape[BATCH_RANK_MAXIMUM]; /* of a row; -1: any */
};
struct batch_model {
    struct batch_tensor *inputs, *outputs;
    size_t input_count, output_count;
    size_t rows_maximum; /* in one request */
};
/* From the runner's report, by the spec's names. CONFIGURATION when they do not fit together. */
int batch_model_read(const char *facts_json, const struct batch_spec *spec, struct batch_model *ret_model,
                     struct error **ret_error);
void batch_model_clear(struct batch_model *model);

/* ---- chunks: the rows of one request ---- */

struct batch_reject {
    int64_t line;
    const char *stage;
    char *detail;
};
struct batch_rejects {
    struct batch_reject *list;
    size_t count;
};
void batch_rejects_add(struct batch_rejects *rejects, int64_t line, const char *stage, const char *detail);
void batch_rejects_clear(struct batch_rejects *rejects);

struct batch_column {
    struct buffer data; /* as it goes over the wire */
    size_t *ends; /* of each row in it */
    int64_t shape[BATCH_RANK_MAXIMUM]; /* of the chunk's rows */
};
struct batch_chunk {
    struct batch_chunk *next;
    int64_t number, input_end, line_end;
    size_t count, capacity; /* rows */
    int64_t *lines;
    struct buffer ids; /* as they stand in the output */
    size_t *id_ends;
    struct batch_column *columns; /* one an input */
    struct batch_rejects rejects;
    /* While it is asked for: rows [0, done) have their answers. */
    size_t done;
    bool alone; /* row by row */
    unsigned failures;
    struct buffer output; /* lines of the output */
    int64_t rows, truncated; /* in it */
};
struct batch_chunk *batch_chunk_new(const struct batch_model *model, size_t capacity);
void batch_chunk_free(struct batch_chunk *chunk, const struct batch_model *model);
size_t batch_chunk_bytes(const struct batch_chunk *chunk, const struct batch_model *model);

/* ---- records to rows (batch_row.c, batch_value.c) ---- */

struct batch_rows {
    const struct batch_spec *spec;
    const struct batch_model *model;
    /* CSV: the header. */
    size_t column_count, id_column;
    size_t *input_columns;
    struct batch_text *fields; /* room for a record */
    /* The row that was read last. */
    int64_t line;
    struct buffer id; /* as it stands in the output */
    struct batch_column *columns; /* one an input, without ends */
};
#define BATCH_NO_COLUMN SIZE_MAX
/* `header`: CSV's first record; NULL: there is none (NDJSON, an empty file). MODEL_REGISTRY when it lacks a field. */
int batch_rows_open(struct batch_rows *rows, const struct batch_spec *spec, const struct batch_model *model,
                    struct batch_record *header, struct error **ret_error);
void batch_rows_close(struct batch_rows *rows);
/* NULL, and the record's row is ready to be placed; else why it is rejected (caller frees). */
char *batch_rows_read(struct batch_rows *rows, struct batch_record *record);
/* Adds it to the chunk. False when it does not fit beside those that are in it: it fits into an empty one. */
bool batch_rows_place(struct batch_rows *rows, struct batch_chunk *chunk);

/* Appends the value's elements; `shape` is the row's: fixed where it is not -1, and found out where it is. False with a
 * static sentence in *ret_fault. */
bool batch_value_read(const struct batch_tensor *tensor, yyjson_val *value, int64_t *shape, struct buffer *data,
                      const char **ret_fault);
/* The same from the text of a CSV field: a number or word for a row without dimensions, else JSON. */
bool batch_value_read_text(const struct batch_tensor *tensor, const char *bytes, size_t size, int64_t *shape,
                           struct buffer *data, const char **ret_fault);
/* Writes one row's value as JSON. False when it has no JSON (not finite, no UTF-8). *bytes moves on. */
bool batch_value_write(enum batch_type type, const int64_t *shape, size_t rank, const char **bytes, const char *end,
                       struct buffer *out);

/* ---- requests and answers (batch_answer.c) ---- */

/* The request for rows [first, first + count); returns the size of its JSON head. */
size_t batch_request_write(const struct batch_model *model, const struct batch_chunk *chunk, size_t first, size_t count,
                           struct buffer *request);
/* Appends the answer's rows to the chunk's output. False when it is not what was asked for. */
bool batch_answer_take(const struct batch_spec *spec, const struct batch_model *model, struct batch_chunk *chunk,
                       size_t first, size_t count, const char *bytes, size_t size, size_t head_size);
/* The first line of a CSV part; nothing for NDJSON. */
void batch_answer_header(const struct batch_spec *spec, const struct batch_model *model, struct buffer *out);

/* ---- the output (batch_output.c, batch_output_s3.c) ---- */

struct batch_output;
/* Makes it this job's, and gives the newest recorded part its name if a kill came between. */
int batch_output_open(const struct batch_config *config, struct batch_output **ret_output, struct error **ret_error);
void batch_output_close(struct batch_output *output); /* a part that is not sealed goes; NULL is fine */
/* A new part: its temporary file. */
int batch_output_begin(struct batch_output *output, int64_t number, struct error **ret_error);
int batch_output_write(struct batch_output *output, const char *bytes, size_t size, struct error **ret_error);
/* It is whole and durable; strings of *part are the output's until the next one begins. */
int batch_output_seal(struct batch_output *output, struct batch_part *part, struct error **ret_error);
/* It gets its name. */
int batch_output_publish(struct batch_output *output, struct error **ret_error);
/* Writes _SUCCESS and lets the output go. */
int batch_output_finish(struct batch_output *output, const char *bytes, size_t size, struct error **ret_error);

/* ---- the run (batch_run.c, batch_feed.c, batch_call.c, batch_drain.c) ---- */

struct batch_call;
struct batch_pool {
    char *address;
    struct http_pool *pool;
    size_t in_flight;
    bool is_up;
    uint64_t suspect_until_ms;
    struct batch_pool *next;
};

struct batch_run {
    const struct batch_config *config;
    struct batch_model model;
    struct batch_source *source;
    struct batch_output *output;

    uv_loop_t loop;
    uv_timer_t tick;
    uv_async_t woken; /* by the other two */
    struct batch_pool *pools;
    struct batch_call *calls;
    struct batch_chunk *again; /* to be asked for (again), before those that are ready */
    uint64_t told_ms;
    struct batch_progress progress;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch_chunk *ready, **ready_end; /* from the reading thread */
    struct batch_chunk *done; /* for the writing thread, in no order */
    size_t chunks, chunk_maximum; /* that exist, and may */
    int64_t made; /* chunks, when all were */
    bool has_read_all, has_written_all, is_stopping;
    struct error *error; /* the first */
    int64_t rows, rejected, truncated, parts, input_done; /* written */
};

/* Bodies of the two threads; `context` is the run. */
void *batch_feed(void *context);
void *batch_drain(void *context);
/* Ends the run with the error, which becomes the run's. Any thread. */
void batch_run_fail(struct batch_run *run, struct error *error);
bool batch_run_is_stopping(struct batch_run *run);
/* The list of parts and totals, as _SUCCESS holds it. */
int batch_manifest(struct batch_run *run, struct buffer *out, struct error **ret_error);

/* Gives replicas what they have room for. */
void batch_calls_send(struct batch_run *run);
/* Looks which replicas are up. */
int batch_calls_look(struct batch_run *run, struct error **ret_error);
void batch_calls_cancel(struct batch_run *run);
/* A chunk has all its answers. Loop's thread. */
void batch_run_chunk_done(struct batch_run *run, struct batch_chunk *chunk);
