/* What a process finds when the supervisor has started it: the contract between supervisor and roles beside
 * messages.def.
 *
 * Descriptors: 0 /dev/null; 1 and 2 where its log goes; those below; nothing else. The members lock must stay open
 * until the process ends: a new supervisor waits on it for the children of the one before (RULES P1). Signals: all
 * default, none blocked. SIGTERM asks it to end. SIGINT does not reach it: it is in a process group of its own.
 * Environment: controller, indexer and gateway get every effective setting (settings_environment()) beside what `serve`
 * was started with, of which what names registries and their credentials (MLFLOW_*, AWS_*, DOCKER_CONFIG) reaches the
 * controller only; a runner gets PATH, LANG, HOME and GLIBC_TUNABLES, what concerns it as flags
 * (runner/runner_flags.def), and works in "/". It ends when its supervisor does: by PDEATHSIG, which is set before its
 * exec, and by itself when descriptor 3 closes.
 */
#pragma once

#define ROLE_DESCRIPTOR_SUPERVISOR 3 /* SOCK_SEQPACKET; wire_channel_new() takes it */
#define ROLE_DESCRIPTOR_LISTENER 4 /* gateway only: the listening TCP socket */
#define ROLE_DESCRIPTOR_STATE 4 /* serve --check-handover only: the state of the service that it is to take over */
#define ROLE_DESCRIPTOR_MEMBERS 5 /* the shared lock on <state>/members */
#define ROLE_DESCRIPTOR_CONTROL 6 /* gateway only: the listening control socket <state>/control.sock */

/* Exit status of a controller, indexer or gateway that cannot start, and could not if it were started again (a database
 * of a newer version, a setting that it cannot work with). It says why with role_failed first; `serve` then ends with
 * that sentence and this status, unless that role had been ready before: then it is tried again with back-off, for the
 * rest to live. */
#define ROLE_EXIT_PERMANENT 9

/* Set in the environment of a controller that starts with the service, or with new settings: it is to fail for good
 * when it cannot read the registries file. Without it, it came after one that could, and does without the file. */
#define ROLE_VARIABLE_STRICT "SLIPWAY_ROLE_STRICT"
