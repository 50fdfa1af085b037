/* Who fetches what: of several tasks that want the same source at once, one fetches, and the others wait for its
 * package.
 *
 * A claim is on a key that names a source's content. Its holder has it from the fetch step until the package is
 * recorded (fetch_claim_finish), or until its task is done with its steps, however that came (fetch_claim_release):
 * then the next one has the claim and fetches itself. A task holds one claim at most, and none while it waits, so that
 * nobody waits in a circle. In memory only: after a restart the tasks claim anew. The mutex is a leaf. */
#pragma once
#include "controller/controller-internal.h"

struct fetch_claims *fetch_claims_new(void);
void fetch_claims_free(struct fetch_claims *claims);

/* 1: the claim is this run's. 0: another's task fetched it; *ret_digest is the package's (caller frees), which may have
 * gone again. Waits without a deadline of its own; UNAVAILABLE when the run is interrupted. `on_wait` is told once
 * which task is waited for, with no lock held; may be NULL. */
int fetch_claim(struct step_run *run, const char *key, void (*on_wait)(struct step_run *run, const char *task_id),
                char **ret_digest, struct error **ret_error);
/* The package of the run's claim, if it holds one, is recorded. */
void fetch_claim_finish(struct step_run *run, const char *digest);
/* Lets go of what the run still claims. */
void fetch_claim_release(struct step_run *run);
