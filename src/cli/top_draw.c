/* The page of `slipway top`: what the service is, then a table each of deployments, collections and running tasks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/top-internal.h"

#define COLUMNS_MAXIMUM 10

struct page {
    struct buffer *text;
    size_t width, height, lines;
};

/* Cut to the window: a character of UTF-8 counts as one column. */
static void put_line(struct page *page, const char *line) {
    if (page->height && page->lines >= page->height) return;
    size_t columns = 0, size = 0;
    for (; line[size]; size++) {
        if (((unsigned char)line[size] & 0xc0) == 0x80) continue;
        if (page->width && columns == page->width) break;
        columns++;
    }
    buffer_append(page->text, line, size);
    buffer_append(page->text, "\n", 1);
    page->lines++;
}

/* ---- a table ---- */

struct table {
    const char *const *titles;
    size_t columns, rows;
    char **cells;
};

static char **add_row(struct table *table) {
    table->cells = mem_resize(table->cells, (table->rows + 1) * table->columns, sizeof(char *));
    char **row = table->cells + table->rows++ * table->columns;
    memset(row, 0, table->columns * sizeof(char *));
    return row;
}

static void widen(int *width, const char *text) {
    int columns = text ? cli_text_width(text) : 1;
    if (columns > *width) *width = columns;
}

static void put_row(struct page *page, const struct table *table, const char *const *cells, const int *widths) {
    struct buffer line = {0};
    for (size_t i = 0; i < table->columns; i++) {
        const char *cell = cells[i] ? cells[i] : "-";
        int gap = i + 1 < table->columns ? widths[i] - cli_text_width(cell) + 2 : 0;
        buffer_append_format(&line, "%s%*s", cell, gap, "");
    }
    put_line(page, line.size ? line.bytes : "");
    buffer_clear(&line);
}

/* Draws and frees it; one without rows is left out. */
static void put_table(struct page *page, struct table *table) {
    int widths[COLUMNS_MAXIMUM] = {0};
    for (size_t i = 0; i < table->columns; i++) widen(&widths[i], table->titles[i]);
    for (size_t i = 0; i < table->rows * table->columns; i++) widen(&widths[i % table->columns], table->cells[i]);
    if (table->rows) {
        put_line(page, "");
        put_row(page, table, table->titles, widths);
    }
    for (size_t i = 0; i < table->rows; i++)
        put_row(page, table, (const char *const *)table->cells + i * table->columns, widths);
    for (size_t i = 0; i < table->rows * table->columns; i++) free(table->cells[i]);
    free(table->cells);
}

/* ---- cells ---- */

static const char *field(yyjson_val *object, const char *name) {
    return yyjson_get_str(yyjson_obj_get(object, name));
}

static int64_t number(yyjson_val *object, const char *name) {
    return yyjson_get_sint(yyjson_obj_get(object, name));
}

static char *rate_cell(double rate) {
    return rate >= 100 ? text_format("%.0f", rate) : text_format("%.1f", rate);
}

static char *time_cell(double seconds) {
    if (seconds < 0) return NULL;
    return seconds < 1 ? text_format("%.1f ms", seconds * 1000) : text_format("%.2f s", seconds);
}

static void fill_rates(char **cells, const struct top_rates *rates, const struct top_series *series) {
    cells[0] = rate_cell(rates->requests);
    cells[1] = time_cell(rates->median_s);
    cells[2] = time_cell(rates->p99_s);
    cells[3] = series ? text_format("%.0f", series->queue) : NULL;
    cells[4] = rate_cell(rates->errors);
}

/* ---- the parts of the page ---- */

static char *count_of(yyjson_doc *list, const char *one, const char *many) {
    return text_count(yyjson_arr_size(yyjson_doc_get_root(list)), one, many);
}

static void put_head(struct page *page, const struct top_look *look) {
    yyjson_val *processes = yyjson_doc_get_root(look->processes), *process;
    size_t index, maximum, runners = 0;
    uint64_t memory = 0;
    yyjson_arr_foreach(processes, index, maximum, process) {
        memory += yyjson_get_uint(yyjson_obj_get(process, "memory_bytes"));
        runners += text_equal(field(process, "role"), "runner");
    }
    _cleanup_free_ char *size = text_size(memory);
    _cleanup_free_ char *deployments = count_of(look->deployments, "deployment", "deployments");
    _cleanup_free_ char *collections = count_of(look->collections, "collection", "collections");
    _cleanup_free_ char *tasks = count_of(look->tasks, "task", "tasks");
    _cleanup_free_ char *all = count_of(look->processes, "process", "processes");
    _cleanup_free_ char *of_them = text_count(runners, "runner", "runners");
    _cleanup_free_ char *line =
        text_format("%s, %s, %s; %s (%s) of %s", deployments, collections, tasks, all, of_them, size);
    put_line(page, line);
}

static void put_deployments(struct page *page, const struct top_look *before, const struct top_look *now) {
    static const char *const titles[] = {"DEPLOYMENT", "STATUS", "UP",    "REQ/S", "P50",
                                         "P99",        "QUEUE",  "ERR/S", "MEMORY"};
    struct table table = {titles, ARRAY_SIZE(titles), 0, NULL};
    size_t index, maximum;
    yyjson_val *deployment;
    yyjson_arr_foreach(yyjson_doc_get_root(now->deployments), index, maximum, deployment) {
        const char *name = field(deployment, "deployment_name");
        if (!name || text_equal(field(deployment, "status"), "inactive")) continue;
        const struct top_series *series = top_find(now, name, false);
        struct top_rates rates = top_compare(before, now, name, false);
        char **cells = add_row(&table);
        cells[0] = text_copy(name);
        cells[1] = text_copy(field(deployment, "status"));
        cells[2] =
            text_format("%.0f/%lld", series ? series->replicas_up : 0, (long long)number(deployment, "replicas"));
        fill_rates(cells + 3, &rates, series);
        cells[8] = series ? text_size((uint64_t)series->memory_bytes) : NULL;
    }
    put_table(page, &table);
}

static void put_collections(struct page *page, const struct top_look *before, const struct top_look *now) {
    static const char *const titles[] = {"COLLECTION", "DOCUMENTS", "HEAD",  "BEHIND", "SEARCH/S",
                                         "P50",        "P99",       "QUEUE", "ERR/S"};
    struct table table = {titles, ARRAY_SIZE(titles), 0, NULL};
    size_t index, maximum;
    yyjson_val *collection;
    yyjson_arr_foreach(yyjson_doc_get_root(now->collections), index, maximum, collection) {
        const char *name = field(collection, "name");
        if (!name) continue;
        yyjson_val *blue = yyjson_obj_get(collection, "blue");
        int64_t head = number(blue, "head_seq"), applied = number(blue, "applied_seq");
        struct top_rates rates = top_compare(before, now, name, true);
        char **cells = add_row(&table);
        cells[0] = text_copy(name);
        cells[1] = text_format("%lld", (long long)number(collection, "documents"));
        cells[2] = blue ? text_format("%lld", (long long)head) : NULL;
        cells[3] = blue ? text_format("%lld", (long long)(head > applied ? head - applied : 0)) : NULL;
        fill_rates(cells + 4, &rates, top_find(now, name, true));
    }
    put_table(page, &table);
}

static char *progress_cell(yyjson_val *task) {
    yyjson_val *progress = yyjson_obj_get(task, "progress");
    int64_t done = number(progress, "done"), total = number(progress, "total");
    return total > 0 && done <= total ? text_format("%.0f %%", 100.0 * (double)done / (double)total) : NULL;
}

static void put_tasks(struct page *page, const struct top_look *now) {
    static const char *const titles[] = {"TASK", "KIND", "STEP", "PROGRESS", "OF"};
    struct table table = {titles, ARRAY_SIZE(titles), 0, NULL};
    size_t index, maximum;
    yyjson_val *task;
    yyjson_arr_foreach(yyjson_doc_get_root(now->tasks), index, maximum, task) {
        const char *of = field(task, "collection");
        char **cells = add_row(&table);
        cells[0] = text_copy(field(task, "task_id"));
        cells[1] = text_copy(field(task, "kind"));
        cells[2] = text_copy(field(task, "step"));
        cells[3] = progress_cell(task);
        cells[4] = text_copy(of ? of : field(task, "deployment_id"));
    }
    put_table(page, &table);
}

void top_draw(struct buffer *text, const struct top_look *before, const struct top_look *now, size_t width,
              size_t height) {
    struct page page = {.text = text, .width = width, .height = height};
    put_head(&page, now);
    put_deployments(&page, before, now);
    put_collections(&page, before, now);
    put_tasks(&page, now);
}
