/* What the parts of the check share. Each part is asked once a look and adds findings; what it needs of the databases
 * it takes while the cut is held, what takes long it does after that. */
#pragma once
#include "state/state-internal.h"

struct index_look {
    char *subject, *folder, *index_id, *log_id, *encoder_digest;
    uint64_t durable;
    uint32_t dimension;
    bool quantized;
};
struct package_look {
    char digest[DIGEST_HEX_SIZE];
    char *users; /* names of deployments, or NULL */
    bool has_row; /* in the table of packages; else only pins name it */
    bool is_wanted; /* by a revision that lives, not only by a task that is making it */
};

struct checking {
    const char *state;
    const struct state_progress *progress;
    struct state_cut *cut; /* NULL: the control database cannot be read */
    struct state_report *report;
    struct index_look *indexes;
    size_t index_count;
    struct package_look *packages;
    size_t package_count;
};
/* Adds a finding; `format` makes what is wrong. */
void check_find(struct checking *checking, enum state_gravity gravity, const char *subject, const char *advice,
                const char *format, ...) __attribute__((format(printf, 5, 6)));
/* One that the next start of the service mends: a note when it is not running, else a fault. */
void check_find_mended(struct checking *checking, const char *subject, const char *what_start_does, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));
/* Calls `take` for each name in a folder but "." and ".."; not there: nothing. */
void check_each_name(const char *folder, void (*take)(void *context, const char *name), void *context);
/* The first column of the first row. */
int check_ask_number(struct checking *checking, int64_t *ret_number, struct error **ret_error, const char *sql,
                     const char *text);

/* While the cut is held. Negative: the control database is so damaged that the look ends there. */
int check_control(struct checking *checking, struct error **ret_error); /* check.c */
int check_pins(struct checking *checking, struct error **ret_error);
int check_list_packages(struct checking *checking, struct error **ret_error);
int check_collections(struct checking *checking, struct error **ret_error);
int check_leftovers(struct checking *checking, struct error **ret_error);
/* After it. */
void check_packages(struct checking *checking);
void check_indexes(struct checking *checking);
