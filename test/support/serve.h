/* A supervisor under test, whose controller, indexer and gateway are the test itself (fakes/fake_roles.h).
 *
 * Every wait has a deadline; what is not there by then fails the test. serve_end() ends whatever is left. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/wire.h"

/* One of the roles that the supervisor has started: its messages come out of `channel`. */
struct fake {
    char role[16];
    pid_t pid;
    struct wire_channel *channel; /* NULL: not there */
};

struct serve {
    char folder[64]; /* of the test; state and models lie in it */
    char *state;
    pid_t pid; /* 0: has ended */
    int listener; /* where fakes connect */
    int port; /* that serve listens on */
    struct fake controller, indexer, gateway;
};

/* Makes the folders; starts nothing. */
void serve_prepare(struct serve *serve);
/* Starts `serve` with --drain and other flags (ended by NULL); its stderr goes to <folder>/stderr. */
void serve_launch(struct serve *serve, const char *const *flags);
/* serve_prepare(), serve_launch(), and all roles registered, the controller last. */
void serve_begin(struct serve *serve);
void serve_begin_with(struct serve *serve, const char *const *flags);
/* Takes roles as they connect, up to the next `role`; an earlier one of a name is closed. */
struct fake *serve_accept(struct serve *serve, const char *role);
/* Kills what is left, waits, removes the folders. */
void serve_end(struct serve *serve);
/* Waits for the end of serve; its exit status, or minus the signal. */
int serve_wait(struct serve *serve);
/* What serve and its roles have written; the caller frees. */
char *serve_stderr(const struct serve *serve);

/* A model folder with that script; the caller frees the path. */
char *serve_model(const struct serve *serve, const char *script);
/* Asks for a replica with the script, for at most `restarts` restarts. */
void serve_start_replica(struct serve *serve, const char *id, const char *script, uint64_t restarts,
                         uint64_t ready_deadline_ms);

/* The next message of that type; others that come before it are dropped. Free with wire_message_clear(). */
struct wire_message fake_expect(struct fake *fake, enum wire_type type);
/* Drops messages up to and including the next one of that type. */
void fake_skip(struct fake *fake, enum wire_type type);
/* The very next message. */
struct wire_message fake_next(struct fake *fake);
/* Whether it is gone, within the deadline. */
bool process_is_gone(pid_t pid);
/* Milliseconds until a wait fails the test. */
#define SERVE_DEADLINE_MS 20000
