/* Messages between supervisor and roles over a SOCK_SEQPACKET unix socket: one packet, one message.
 *
 * messages.def is the one table: from it come struct wire_<name>, WIRE_<NAME>, and both directions of marshalling.
 * Form on the wire: u32 message number, u32 field count, then for each field u8 kind, u32 size, bytes; integers little
 * endian. Unknown message numbers and additional fields are passed over, so a peer one version older or newer is
 * understood. A malformed packet is an error: the connection is then closed, which means the peer's end.
 *
 * May use: base. No threads of its own; a wire_channel belongs to one thread. Never blocks except where said.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define WIRE_MESSAGE_MAXIMUM (192u * 1024) /* bytes; TEXT fields are cut by their senders to fit */

enum wire_type {
#define MESSAGE(name, number, fields) WIRE_##name = number,
#include "wire/messages.def"
#undef MESSAGE
};

#define U64(field) uint64_t field;
#define TEXT(field) const char *field; /* NULL is sent as "" */
#define MESSAGE(name, number, fields)                                                                                  \
    struct wire_##name {                                                                                               \
        fields                                                                                                         \
    };
#include "wire/messages.def"
#undef MESSAGE
#undef TEXT
#undef U64

/* A received message: which union member holds is told by `type`. Strings point into `storage`. Free with
 * wire_message_clear(). */
struct wire_message {
    enum wire_type type;
    union {
#define MESSAGE(name, number, fields) struct wire_##name name;
#include "wire/messages.def"
#undef MESSAGE
    };
    char *storage;
};
void wire_message_clear(struct wire_message *message);
#define _cleanup_wire_message_ __attribute__((cleanup(wire_message_clear)))

/* Marshalling alone (for tests and the fuzzer). *ret_bytes is freed by the caller. */
int wire_encode(const struct wire_message *message, char **ret_bytes, size_t *ret_size, struct error **ret_error);
/* An unknown message number gives 0 with type 0. */
int wire_decode(const void *bytes, size_t size, struct wire_message *ret_message, struct error **ret_error);

/* One end of a socketpair. Sending queues what the socket does not take at once (ceiling: 64 MiB, then an error). */
struct wire_channel;
struct wire_channel *wire_channel_new(int descriptor); /* takes the descriptor, makes it non-blocking */
void wire_channel_free(struct wire_channel *channel);
int wire_channel_descriptor(const struct wire_channel *channel);
/* For poll: something is queued. */
bool wire_channel_wants_write(const struct wire_channel *channel);
/* Sends or queues. UNAVAILABLE error when the peer is gone. */
int wire_send(struct wire_channel *channel, const struct wire_message *message, struct error **ret_error);
/* The same with a descriptor (SCM_RIGHTS, unix(7)), of which the receiver gets a duplicate of its own; the caller's
 * stays open, and it may close it at once. */
int wire_send_with(struct wire_channel *channel, const struct wire_message *message, int descriptor,
                   struct error **ret_error);
/* Sends what is queued as far as the socket takes it. */
int wire_flush(struct wire_channel *channel, struct error **ret_error);
/* The next message: 1 with *ret_message, 0 when none is there now, negative when the peer is gone (UNAVAILABLE) or sent
 * a malformed packet. */
int wire_receive(struct wire_channel *channel, struct wire_message *ret_message, struct error **ret_error);

/* The descriptor that came with the message received last, close-on-exec, which is then the caller's; -1: none, or it
 * was taken already. One that is not taken is closed with the next receive. */
int wire_take_descriptor(struct wire_channel *channel);

/* wire_say(channel, replica_up, .replica_id = id, .pid = pid): build and send; errors are those of wire_send with NULL.
 */
#define wire_say(channel, name_, ...)                                                                                  \
    wire_send((channel), &(struct wire_message){.type = WIRE_##name_, .name_ = {__VA_ARGS__}}, NULL)
