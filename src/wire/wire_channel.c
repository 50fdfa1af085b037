/* One end of a SOCK_SEQPACKET pair. A packet is read in two calls (its size, then the packet), so that a channel holds
 * no buffer while nothing comes; what the socket does not take at once waits in a list. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "wire/wire.h"

#define QUEUE_MAXIMUM ((size_t)64 << 20)
/* The kernel doubles it for its own bookkeeping and caps it at net.core.wmem_max; two of the largest messages fit. */
#define SEND_BUFFER_SIZE 212992

struct packet {
    struct packet *next;
    char *bytes;
    size_t size;
};

struct wire_channel {
    int descriptor;
    struct packet *first, **last; /* what waits to be sent */
    size_t queued; /* bytes */
};

struct wire_channel *wire_channel_new(int descriptor) {
    struct wire_channel *channel = mem_new(struct wire_channel);
    channel->descriptor = descriptor;
    channel->last = &channel->first;
    int flags = fcntl(descriptor, F_GETFL);
    if (flags >= 0) fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &(int){SEND_BUFFER_SIZE}, sizeof(int));
    return channel;
}

static void drop_first(struct wire_channel *channel) {
    struct packet *packet = channel->first;
    channel->first = packet->next;
    if (!channel->first) channel->last = &channel->first;
    channel->queued -= packet->size;
    free(packet->bytes);
    free(packet);
}

void wire_channel_free(struct wire_channel *channel) {
    if (!channel) return;
    while (channel->first) drop_first(channel);
    close(channel->descriptor);
    free(channel);
}

int wire_channel_descriptor(const struct wire_channel *channel) {
    return channel->descriptor;
}

bool wire_channel_wants_write(const struct wire_channel *channel) {
    return channel->first;
}

/* 1 when sent, 0 when the socket is full, negative when the peer is gone. */
static int send_packet(struct wire_channel *channel, const char *bytes, size_t size, struct error **ret_error) {
    for (;;) {
        if (send(channel->descriptor, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return 1;
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) return 0;
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "send to the other process");
    }
}

int wire_flush(struct wire_channel *channel, struct error **ret_error) {
    while (channel->first) {
        int sent = send_packet(channel, channel->first->bytes, channel->first->size, ret_error);
        if (sent < 0) return sent;
        if (!sent) break;
        drop_first(channel);
    }
    return 0;
}

static int enqueue(struct wire_channel *channel, char *bytes, size_t size, struct error **ret_error) {
    if (size > QUEUE_MAXIMUM - channel->queued) {
        free(bytes);
        return error_set(ret_error, ERROR_UNAVAILABLE, "send to the other process: it has not read for %zu bytes",
                         channel->queued);
    }
    struct packet *packet = mem_new(struct packet);
    *packet = (struct packet){.bytes = bytes, .size = size};
    *channel->last = packet;
    channel->last = &packet->next;
    channel->queued += size;
    return 0;
}

int wire_send(struct wire_channel *channel, const struct wire_message *message, struct error **ret_error) {
    char *bytes;
    size_t size;
    int result = wire_encode(message, &bytes, &size, ret_error);
    if (result) return result;
    result = wire_flush(channel, ret_error);
    if (!result && !channel->first) result = send_packet(channel, bytes, size, ret_error);
    if (!result) return enqueue(channel, bytes, size, ret_error);
    free(bytes);
    return result < 0 ? result : 0;
}

static int receive_failed(struct error **ret_error) {
    if (errno == EAGAIN) return 0;
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "read from the other process");
}

static ssize_t receive_retrying(int descriptor, void *bytes, size_t size, int flags) {
    ssize_t got;
    do got = recv(descriptor, bytes, size, flags | MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got;
}

int wire_receive(struct wire_channel *channel, struct wire_message *ret_message, struct error **ret_error) {
    for (;;) {
        char nothing;
        ssize_t size = receive_retrying(channel->descriptor, &nothing, 0, MSG_PEEK | MSG_TRUNC);
        if (size < 0) return receive_failed(ret_error);
        if (!size)
            return error_set(ret_error, ERROR_UNAVAILABLE, "read from the other process: it closed the connection");
        if ((size_t)size > WIRE_MESSAGE_MAXIMUM)
            return error_set(ret_error, ERROR_REQUEST,
                             "read from the other process: a packet of %zd bytes, more than the %u "
                             "that one message may have",
                             size, WIRE_MESSAGE_MAXIMUM);
        _cleanup_free_ char *bytes = mem_alloc((size_t)size);
        ssize_t got = receive_retrying(channel->descriptor, bytes, (size_t)size, 0);
        if (got < 0) return receive_failed(ret_error);
        int result = wire_decode(bytes, (size_t)got, ret_message, ret_error);
        if (result) return result;
        if (ret_message->type) return 1;
        wire_message_clear(ret_message); /* from a newer peer: the next one */
    }
}
