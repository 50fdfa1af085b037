/* Power cuts: runs code in a child and keeps, beside its files, what the disk would hold of them had the power failed.
 *
 * Only what was synced is kept for certain: a file's content up to its last fsync, fdatasync or msync (of mapped files,
 * too), a folder's names up to the folder's last fsync. Of the rest some is kept and some is not, as the seed says: by
 * sectors of 512 bytes, at any moment, in any order, as a kernel writes back; a file's length likewise; of a folder's
 * names either those of its last sync or all. What it leaves out: of a sector that changed twice since a sync only the
 * newest state, and those at some moments before, can be kept; renames between folders are those of either folder.
 *
 *     struct power *power = power_new(folder, seed);     what is there now is on the disk
 *     power_run(power, 17, body, context);               cut in place of the 17th call that writes, names or syncs
 *     power_restore(power, after);                       the folder as it is found after the next boot
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct power;
struct power *power_new(const char *folder, uint64_t seed);
void power_free(struct power *power);
/* Runs body in a child until the cut, or to its end when it makes fewer calls (`at` 0: always to its end). Whether it
 * was cut. Ends the test program when the child fails by itself. */
bool power_run(struct power *power, unsigned at, void (*body)(struct power *power, void *context), void *context);
unsigned power_calls(const struct power *power); /* that were seen */
/* Makes `into` (not there yet) from what the disk holds. */
void power_restore(struct power *power, const char *into);

/* In the child: a call that changes nothing, to cut at between stores to mapped memory, which are no calls. */
void power_point(void);

/* Numbers for the body to tell how far it got: shared memory, which outlives the cut. */
#define POWER_NOTES 8
_Atomic uint64_t *power_notes(struct power *power);
/* A pseudo-random number below `below`: of the seed. Of a child: not shared with the parent's. */
uint64_t power_random(struct power *power, uint64_t below);
