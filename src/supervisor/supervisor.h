/* The supervisor: `slipway serve`. It starts controller, indexer, gateway and runners, keeps them up, and takes them
 * down.
 *
 * Why a process of its own: it is the one part that nothing can make fail, because it takes no outside input, holds no
 * database, links no event library and has one thread. What it is told comes from controller, indexer and
 * gateway, and most of that is for one another, and passed on unread; of a
 * runner, which works on other people's models, it takes three messages and opens none of the text in them.
 *
 * May use: base, wire. Threads: one. Its loop is poll() over a signalfd, and a pidfd and a SOCK_SEQPACKET socket per
 * child. Children are forked and executed on that thread only, die with it (PR_SET_PDEATHSIG), and are never adopted
 * (RULES P1 to P4). The tour through its files is at the top of supervisor.c; wire/role.h: what a child finds. */
#pragma once
#include "base/error.h"
#include "base/settings.h"

enum serve_exit {
#define SERVE_EXIT(constant, status, meaning) SERVE_EXIT_##constant = status,
#include "supervisor/exits.def"
#undef SERVE_EXIT
};

/* The role's whole life. argv[0] is the word "serve", flags follow; they, SLIPWAY_* and the settings file are read into
 * `settings` (which comes with its defaults, and stays the caller's). Returns an enum serve_exit. Children are started
 * as /proc/self/exe with the role's name as first argument, so the program's main() must know these roles. */
int supervisor_main(struct settings *settings, int argc, char **argv);

/* `serve --check-handover`, which a running supervisor starts of the program that is to follow it (RULES U1): whether
 * the state that it gives as descriptor ROLE_DESCRIPTOR_STATE can be read. *ret_state: the state folder, freed by the
 * caller. Touches nothing. CONFIGURATION errors. */
int supervisor_check_handover(char **ret_state, struct error **ret_error);
