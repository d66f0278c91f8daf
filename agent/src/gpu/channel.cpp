// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <unistd.h>

#include <thread>

#include "gpu/channel_page.h"
#include "util/message.h"

namespace memplate::gpu {

Result<std::optional<Received>> receive_json(int socket) {
    std::string body;
    std::vector<int> numbers;
    const int error = receive_message(socket, body, numbers);
    if (error == EPIPE || error == ECONNRESET) return std::nullopt;
    if (error != 0) return fail_errno(error, "receive from a GPU worker");
    Received received;
    for (const int number : numbers) received.descriptors.emplace_back(number);
    received.message = Json::parse(body, nullptr, false);
    if (!received.message.is_object()) return fail("GPU worker: a message that is no JSON object");
    return received;
}

Result<Channel> Channel::open(int64_t main_ns) {
    Channel channel;
    channel.socket_ = UniqueFd(3);
    const UniqueFd memory(4);
    TRY_ASSIGN(Worker::Page * page, Worker::Page::map(memory.get()));
    channel.page_.reset(page);
    page->main_ns = main_ns;
    return channel;
}

Result<Json> Channel::receive() {
    std::vector<UniqueFd> descriptors;
    return receive(descriptors);
}

Result<Json> Channel::receive(std::vector<UniqueFd>& descriptors) {
    TRY_ASSIGN(auto received, receive_json(socket_.get()));
    if (!received) return fail("memplate is gone");
    descriptors = std::move(received->descriptors);
    return std::move(received->message);
}

Result<> Channel::send(const Json& message, const std::vector<int>& descriptors) {
    const int error = send_message(
        socket_.get(), message.dump(-1, ' ', false, Json::error_handler_t::replace), descriptors);
    if (error != 0) return fail_errno(error, "send to memplate");
    return {};
}

Result<> Channel::send(const Error& error) {
    return send({{"type", "error"},
                 {"kind", static_cast<int>(error.kind)},
                 {"code", error.code},
                 {"message", error.message}});
}

void Channel::end_with_peer() const {
    std::thread([socket = socket_.get()] {
        pollfd fd{socket, 0, 0};  // only of a hang-up, which cannot be left out
        while (::poll(&fd, 1, -1) < 0 && errno == EINTR) {
        }
        ::_exit(0);
    }).detach();
}

char* Channel::note() const {
    return page_->note;
}

}  // namespace memplate::gpu
