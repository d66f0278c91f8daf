// SPDX-License-Identifier: Apache-2.0
#include "sandbox/client.h"

#include <poll.h>

#include <algorithm>
#include <chrono>

#include "sandbox/message.h"

namespace memplate::sandbox {
namespace {

constexpr int reply_timeout_ms = 60'000;

Failure no_answer(int error) {
    return error == EPIPE || error == ECONNRESET || error == ENOTCONN
               ? fail_errno(EPIPE, "the keeper has ended")
               : fail_errno(error, "the keeper's socket");
}

}  // namespace

Result<Reply> Client::call(const Json& request, const std::vector<int>& descriptors) {
    if (!socket_) return fail("the sandbox was released");
    std::string body;
    try {
        body = request.dump();
    } catch (const std::exception&) {
        return fail(ErrorKind::usage, "command, environment and paths must be valid UTF-8");
    }
    if (const int error = send_message(socket_.get(), body, descriptors); error != 0) {
        if (error == EMSGSIZE)
            return fail(ErrorKind::usage, "command and environment are too long");
        return no_answer(error);
    }
    for (;;) {
        TRY_ASSIGN(auto reply, receive(reply_timeout_ms));
        if (!reply) return fail_errno(ETIMEDOUT, "the keeper does not answer");
        if (reply->body.contains("event")) continue;  // receive() has kept it
        if (reply->body.value("ok", false)) return std::move(*reply);
        auto failure = fail(reply->body.value("error", "the keeper refused"));
        failure.error().code = reply->body.value("code", 0);
        return failure;
    }
}

Result<std::optional<ExitStatus>> Client::wait_exit(int timeout_ms) {
    using clock = std::chrono::steady_clock;
    const auto deadline = clock::now() + std::chrono::milliseconds(timeout_ms);
    for (;;) {
        if (!exits_.empty()) {
            const ExitStatus exit = exits_.front();
            exits_.pop_front();
            return std::optional(exit);
        }
        if (!socket_) return fail("the sandbox was released");
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
        TRY_ASSIGN(const auto message, receive(static_cast<int>(std::max<int64_t>(left, 0))));
        if (!message) return std::optional<ExitStatus>();
    }
}

Result<std::optional<Reply>> Client::receive(int timeout_ms) {
    pollfd wait{socket_.get(), POLLIN, 0};
    int ready = 0;
    do {
        ready = ::poll(&wait, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready < 0) return fail_errno(errno, "poll");
    if (ready == 0) return std::optional<Reply>();

    std::string body;
    std::vector<int> numbers;
    const int error = receive_message(socket_.get(), body, numbers);
    if (error != 0) return no_answer(error);
    Reply reply;
    for (const int number : numbers) reply.descriptors.emplace_back(number);
    try {
        reply.body = Json::parse(body);
        if (reply.body.value("event", "") == "exit")
            exits_.push_back(
                {reply.body.at("pid").get<pid_t>(), reply.body.at("status").get<int>()});
    } catch (const std::exception& problem) {
        return fail(fmt::format("the keeper's answer: {}", problem.what()));
    }
    return std::optional(std::move(reply));
}

}  // namespace memplate::sandbox
