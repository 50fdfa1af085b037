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
    int descriptor; /* goes with it; -1: none */
};

struct wire_channel {
    int descriptor;
    struct packet *first, **last; /* what waits to be sent */
    size_t queued; /* bytes */
    int received; /* the descriptor that came last, -1: none */
};

struct wire_channel *wire_channel_new(int descriptor) {
    struct wire_channel *channel = mem_new(struct wire_channel);
    channel->descriptor = descriptor;
    channel->last = &channel->first;
    channel->received = -1;
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
    if (packet->descriptor >= 0) close(packet->descriptor);
    free(packet->bytes);
    free(packet);
}

void wire_channel_free(struct wire_channel *channel) {
    if (!channel) return;
    while (channel->first) drop_first(channel);
    if (channel->received >= 0) close(channel->received);
    close(channel->descriptor);
    free(channel);
}

int wire_channel_descriptor(const struct wire_channel *channel) {
    return channel->descriptor;
}

bool wire_channel_wants_write(const struct wire_channel *channel) {
    return channel->first;
}

/* Room for one descriptor beside a packet, aligned as the kernel wants it (cmsg(3)). */
union descriptor_room {
    struct cmsghdr alignment;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static void add_descriptor(struct msghdr *header, union descriptor_room *room, int descriptor) {
    header->msg_control = room->bytes;
    header->msg_controllen = sizeof room->bytes;
    struct cmsghdr *control = CMSG_FIRSTHDR(header);
    *control = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(control), &descriptor, sizeof descriptor);
}

/* 1 when sent, 0 when the socket is full, negative when the peer is gone. */
static int send_packet(struct wire_channel *channel, char *bytes, size_t size, int descriptor,
                       struct error **ret_error) {
    union descriptor_room room = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) add_descriptor(&header, &room, descriptor);
    for (;;) {
        if (sendmsg(channel->descriptor, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return 1;
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) return 0;
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "send to the other process");
    }
}

int wire_flush(struct wire_channel *channel, struct error **ret_error) {
    while (channel->first) {
        int sent =
            send_packet(channel, channel->first->bytes, channel->first->size, channel->first->descriptor, ret_error);
        if (sent < 0) return sent;
        if (!sent) break;
        drop_first(channel);
    }
    return 0;
}

/* Takes bytes and descriptor. */
static int enqueue(struct wire_channel *channel, char *bytes, size_t size, int descriptor, struct error **ret_error) {
    if (size > QUEUE_MAXIMUM - channel->queued) {
        free(bytes);
        if (descriptor >= 0) close(descriptor);
        return error_set(ret_error, ERROR_UNAVAILABLE, "send to the other process: it has not read for %zu bytes",
                         channel->queued);
    }
    struct packet *packet = mem_new(struct packet);
    *packet = (struct packet){.bytes = bytes, .size = size, .descriptor = descriptor};
    *channel->last = packet;
    channel->last = &packet->next;
    channel->queued += size;
    return 0;
}

int wire_send(struct wire_channel *channel, const struct wire_message *message, struct error **ret_error) {
    return wire_send_with(channel, message, -1, ret_error);
}

/* What waits needs a duplicate: the caller may close its own at once. */
static int enqueue_with(struct wire_channel *channel, char *bytes, size_t size, int descriptor,
                        struct error **ret_error) {
    int kept = descriptor < 0 ? -1 : fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (descriptor < 0 || kept >= 0) return enqueue(channel, bytes, size, kept, ret_error);
    free(bytes);
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "keep a descriptor for the other process");
}

int wire_send_with(struct wire_channel *channel, const struct wire_message *message, int descriptor,
                   struct error **ret_error) {
    char *bytes;
    size_t size;
    int result = wire_encode(message, &bytes, &size, ret_error);
    if (result) return result;
    result = wire_flush(channel, ret_error);
    if (!result && !channel->first) result = send_packet(channel, bytes, size, descriptor, ret_error);
    if (!result) return enqueue_with(channel, bytes, size, descriptor, ret_error);
    free(bytes);
    return result < 0 ? result : 0;
}

static int receive_failed(struct error **ret_error) {
    if (errno == EAGAIN) return 0;
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "read from the other process");
}

/* A peer that closed with something of ours unread is told as a reset, once, before what it had sent: its last words
 * are behind that. */
static ssize_t size_of_next(int descriptor) {
    char nothing;
    ssize_t got;
    do got = recv(descriptor, &nothing, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    return got;
}

int wire_take_descriptor(struct wire_channel *channel) {
    int descriptor = channel->received;
    channel->received = -1;
    return descriptor;
}

/* The packet, and the descriptor that came with it. */
static ssize_t receive_packet(struct wire_channel *channel, char *bytes, size_t size) {
    int former = wire_take_descriptor(channel);
    if (former >= 0) close(former);
    union descriptor_room room = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = size};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes, .msg_controllen = sizeof room.bytes};
    ssize_t got;
    do got = recvmsg(channel->descriptor, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    const struct cmsghdr *control = got < 0 ? NULL : CMSG_FIRSTHDR(&header);
    if (control && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS &&
        control->cmsg_len >= CMSG_LEN(sizeof(int)))
        memcpy(&channel->received, CMSG_DATA(control), sizeof channel->received);
    return got;
}

int wire_receive(struct wire_channel *channel, struct wire_message *ret_message, struct error **ret_error) {
    for (;;) {
        ssize_t size = size_of_next(channel->descriptor);
        if (size < 0) return receive_failed(ret_error);
        if (!size)
            return error_set(ret_error, ERROR_UNAVAILABLE, "read from the other process: it closed the connection");
        if ((size_t)size > WIRE_MESSAGE_MAXIMUM)
            return error_set(ret_error, ERROR_REQUEST,
                             "read from the other process: a packet of %zd bytes, more than the %u "
                             "that one message may have",
                             size, WIRE_MESSAGE_MAXIMUM);
        _cleanup_free_ char *bytes = mem_alloc((size_t)size);
        ssize_t got = receive_packet(channel, bytes, (size_t)size);
        if (got < 0) return receive_failed(ret_error);
        int result = wire_decode(bytes, (size_t)got, ret_message, ret_error);
        if (result) return result;
        if (ret_message->type) return 1;
        wire_message_clear(ret_message); /* from a newer peer: the next one */
    }
}
