#include "power.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "watch.h"

#define SECTOR 512
#define NODES_MAXIMUM 4096

enum call_kind { CALL_CHANGE, CALL_SYNC, CALL_SYNC_MEMORY };
static const struct {
    enum call_kind kind;
    int number;
} watched[] = {
    {CALL_SYNC, SYS_fsync},       {CALL_SYNC, SYS_fdatasync},   {CALL_SYNC_MEMORY, SYS_msync},
    {CALL_CHANGE, SYS_pwrite64},  {CALL_CHANGE, SYS_writev},    {CALL_CHANGE, SYS_copy_file_range},
    {CALL_CHANGE, SYS_ftruncate}, {CALL_CHANGE, SYS_renameat2}, {CALL_CHANGE, SYS_mkdirat},
    {CALL_CHANGE, SYS_unlinkat},  {CALL_CHANGE, SYS_fallocate}, {CALL_CHANGE, SYS_write},
#ifdef SYS_rename /* the older calls, which newer architectures lack */
    {CALL_CHANGE, SYS_rename},    {CALL_CHANGE, SYS_mkdir},     {CALL_CHANGE, SYS_unlink},
    {CALL_CHANGE, SYS_rmdir},
#endif
};

struct name {
    char *text;
    struct node *node;
};

/* A file or folder: known from the moment it is found by its name or synced, and held open, so that its inode stands
 * for nothing else. */
struct node {
    dev_t device;
    ino_t inode;
    int descriptor;
    bool is_folder;
    char *bytes; /* of a file, on the disk */
    size_t size;
    struct name *names; /* of a folder, on the disk */
    size_t name_count;
};

struct power {
    char *folder;
    struct node *nodes[NODES_MAXIMUM];
    size_t node_count;
    struct node *root;
    uint64_t random;
    unsigned at, calls;
    bool cut;
    _Atomic uint64_t *notes;
};

uint64_t power_random(struct power *power, uint64_t below) {
    uint64_t z = power->random += 0x9e3779b97f4a7c15u; /* splitmix64 (Steele, Lea, Flood 2014) */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

/* ---- nodes ---- */

static struct node *find_node(struct power *power, const struct stat *status) {
    for (size_t i = 0; i < power->node_count; i++)
        if (power->nodes[i]->device == status->st_dev && power->nodes[i]->inode == status->st_ino)
            return power->nodes[i];
    return NULL;
}

/* The node of what `path` leads to, new ones with nothing on the disk; NULL for what is gone, or neither file nor
 * folder. */
static struct node *get_node(struct power *power, const char *path) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        watch_require(errno == ENOENT || errno == ENXIO, path);
        return NULL;
    }
    watch_require(!fstat(descriptor, &status), path);
    struct node *node = find_node(power, &status);
    if (node || (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))) {
        close(descriptor);
        return node;
    }
    watch_require(power->node_count < NODES_MAXIMUM, "too many files");
    node = mem_new(struct node);
    *node = (struct node){.device = status.st_dev,
                          .inode = status.st_ino,
                          .descriptor = descriptor,
                          .is_folder = S_ISDIR(status.st_mode)};
    power->nodes[power->node_count++] = node;
    return node;
}

static void free_names(struct name *names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i].text);
    free(names);
}

/* What is in the folder now. */
static struct name *list_names(struct power *power, const struct node *folder, size_t *ret_count) {
    struct name *names = NULL;
    size_t count = 0;
    _cleanup_free_ char *path = text_format("/proc/self/fd/%d", folder->descriptor);
    DIR *listing = opendir(path);
    watch_require(listing != NULL, path);
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        _cleanup_free_ char *inner = fs_join(path, entry->d_name);
        struct node *node = get_node(power, inner);
        if (!node) continue;
        names = mem_resize(names, count + 1, sizeof *names);
        names[count++] = (struct name){text_copy(entry->d_name), node};
    }
    closedir(listing);
    *ret_count = count;
    return names;
}

/* ---- what reaches the disk ---- */

static size_t size_now(const struct node *node) {
    struct stat status;
    watch_require(!fstat(node->descriptor, &status), "fstat");
    return (size_t)status.st_size;
}

static void set_size(struct node *node, size_t size) {
    node->bytes = mem_resize(node->bytes, size ? size : 1, 1);
    if (size > node->size) memset(node->bytes + node->size, 0, size - node->size);
    node->size = size;
}

/* The bytes [from, to) as they are now; the file grows on the disk as far as that needs. */
static void write_back(struct node *node, size_t from, size_t to) {
    size_t now = size_now(node);
    if (to > now) to = now;
    if (from >= to) return;
    if (to > node->size) set_size(node, to);
    while (from < to) {
        ssize_t got = pread(node->descriptor, node->bytes + from, to - from, (off_t)from);
        watch_require(got >= 0, "read what is synced");
        if (!got) return; /* made shorter meanwhile */
        from += (size_t)got;
    }
}

static void sync_folder(struct power *power, struct node *node) {
    size_t count;
    struct name *names = list_names(power, node, &count);
    free_names(node->names, node->name_count);
    node->names = names;
    node->name_count = count;
}

static void sync_node(struct power *power, struct node *node) {
    if (node->is_folder) {
        sync_folder(power, node);
        return;
    }
    set_size(node, size_now(node));
    write_back(node, 0, node->size);
}

/* The kernel writes something back of its own accord. */
static void write_back_some(struct power *power, struct node *node) {
    if (node->is_folder) {
        sync_folder(power, node);
        return;
    }
    if (!power_random(power, 2)) set_size(node, size_now(node));
    uint64_t share = power_random(power, 4); /* of 3: none, some, more, all */
    size_t end = size_now(node);
    for (size_t at = 0; at < end && share; at += SECTOR)
        if (power_random(power, 3) < share) write_back(node, at, at + SECTOR);
}

/* ---- calls ---- */

static void sync_descriptor(struct power *power, const struct seccomp_notif *call) {
    _cleanup_free_ char *path = text_format("/proc/%d/fd/%d", (int)call->pid, (int)call->data.args[0]);
    char target[4096];
    ssize_t size = readlink(path, target, sizeof target - 1);
    if (size < 0) return; /* a wrong descriptor */
    target[size] = '\0';
    if (!text_starts_with(target, power->folder)) return;
    struct node *node = get_node(power, path);
    if (node) sync_node(power, node);
}

/* The part of a mapped file that is synced. */
static void sync_memory(struct power *power, const struct seccomp_notif *call) {
    uint64_t from = call->data.args[0], to = from + call->data.args[1];
    _cleanup_free_ char *path = text_format("/proc/%d/maps", (int)call->pid);
    FILE *maps = fopen(path, "re");
    watch_require(maps != NULL, path);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, maps) >= 0) {
        unsigned long long start, end, offset;
        int name_at = 0;
        if (sscanf(line, "%llx-%llx %*s %llx %*s %*s %n", &start, &end, &offset, &name_at) < 3 || !name_at) continue;
        if (end <= from || start >= to || !text_starts_with(line + name_at, power->folder)) continue;
        line[strcspn(line, "\n")] = '\0';
        if (strstr(line + name_at, " (deleted)")) continue; /* nobody finds it after the cut */
        struct node *node = get_node(power, line + name_at);
        uint64_t first = from > start ? from : start, last = to < end ? to : end;
        if (node) write_back(node, first - start + offset, last - start + offset);
    }
    free(line);
    fclose(maps);
}

static int decide(void *context, const struct seccomp_notif *call) {
    struct power *power = context;
    if (++power->calls == power->at) {
        power->cut = true;
        return WATCH_KILL;
    }
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        if (watched[i].number != call->data.nr) continue;
        if (watched[i].kind == CALL_SYNC) sync_descriptor(power, call);
        if (watched[i].kind == CALL_SYNC_MEMORY) sync_memory(power, call);
    }
    if (!power_random(power, 16)) write_back_some(power, power->nodes[power_random(power, power->node_count)]);
    return WATCH_PASS;
}

/* ---- runs ---- */

static void sync_tree(struct power *power, struct node *node) {
    sync_node(power, node);
    for (size_t i = 0; i < node->name_count; i++) sync_tree(power, node->names[i].node);
}

struct power *power_new(const char *folder, uint64_t seed) {
    struct power *power = mem_new(struct power);
    power->folder = realpath(folder, NULL);
    watch_require(power->folder != NULL, folder);
    power->random = seed;
    size_t size = POWER_NOTES * sizeof *power->notes;
    power->notes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    watch_require(power->notes != MAP_FAILED, "mmap");
    power->root = get_node(power, power->folder);
    watch_require(power->root != NULL, folder);
    sync_tree(power, power->root);
    return power;
}

void power_free(struct power *power) {
    for (size_t i = 0; i < power->node_count; i++) {
        close(power->nodes[i]->descriptor);
        free(power->nodes[i]->bytes);
        free_names(power->nodes[i]->names, power->nodes[i]->name_count);
        free(power->nodes[i]);
    }
    munmap((void *)power->notes, POWER_NOTES * sizeof *power->notes);
    free(power->folder);
    free(power);
}

void power_point(void) {
    msync(NULL, 0, MS_SYNC);
}

_Atomic uint64_t *power_notes(struct power *power) {
    return power->notes;
}

unsigned power_calls(const struct power *power) {
    return power->calls;
}

struct body {
    struct power *power;
    void (*run)(struct power *power, void *context);
    void *context;
};

static void run_body(void *context) {
    struct body *body = context;
    body->run(body->power, body->context);
}

bool power_run(struct power *power, unsigned at, void (*body)(struct power *power, void *context), void *context) {
    int calls[sizeof watched / sizeof *watched];
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) calls[i] = watched[i].number;
    power->at = at;
    power->calls = 0;
    power->cut = false;
    const struct watch watch = {
        .calls = calls, .count = sizeof calls / sizeof *calls, .decide = decide, .context = power};
    int status = watch_run(&watch, run_body, &(struct body){power, body, context});
    errno = 0;
    watch_require(status == (power->cut ? 128 + SIGKILL : 0), "the child failed by itself");
    return power->cut;
}

/* ---- after the cut ---- */

static void restore(struct power *power, struct node *node, const char *path) {
    if (power_random(power, 2)) write_back_some(power, node);
    if (!node->is_folder) {
        int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        watch_require(file >= 0, path);
        for (size_t at = 0; at < node->size;) {
            ssize_t done = write(file, node->bytes + at, node->size - at);
            watch_require(done > 0, path);
            at += (size_t)done;
        }
        close(file);
        return;
    }
    watch_require(!mkdir(path, 0700), path);
    for (size_t i = 0; i < node->name_count; i++) {
        _cleanup_free_ char *inner = fs_join(path, node->names[i].text);
        restore(power, node->names[i].node, inner);
    }
}

void power_restore(struct power *power, const char *into) {
    restore(power, power->root, into);
}
