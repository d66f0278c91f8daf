// SPDX-License-Identifier: Apache-2.0
#include "util/message.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace memplate {
namespace {

/// The kernel's limit of descriptors in one message (SCM_MAX_FD).
constexpr size_t max_descriptors = 253;
using ControlBuffer = std::array<char, CMSG_SPACE(max_descriptors * sizeof(int))>;

}  // namespace

int send_message(int socket, std::string_view body, const std::vector<int>& descriptors,
                 int flags) {
    if (descriptors.size() > max_descriptors) return E2BIG;
    iovec part{const_cast<char*>(body.data()), body.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) ControlBuffer control{};
    if (!descriptors.empty()) {
        const size_t length = descriptors.size() * sizeof(int);
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(length);
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(length);
        std::memcpy(CMSG_DATA(header), descriptors.data(), length);
    }
    while (::sendmsg(socket, &message, MSG_NOSIGNAL | flags) < 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

int receive_message(int socket, std::string& body, std::vector<int>& descriptors) {
    ssize_t size = -1;
    do {
        size = ::recv(socket, nullptr, 0, MSG_PEEK | MSG_TRUNC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) return errno;
    if (size == 0) return EPIPE;

    body.resize(static_cast<size_t>(size));
    iovec part{body.data(), body.size()};
    alignas(cmsghdr) ControlBuffer control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    do {
        size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) return errno;

    descriptors.clear();
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        const size_t old = descriptors.size();
        descriptors.resize(old + count);
        std::memcpy(descriptors.data() + old, CMSG_DATA(header), count * sizeof(int));
    }
    return static_cast<size_t>(size) == body.size() ? 0 : EBADMSG;
}

}  // namespace memplate
