// SPDX-License-Identifier: Apache-2.0
#include "criu/worker.h"

#include <sys/socket.h>

#include <array>
#include <utility>

#include "criu_rpc.pb.h"
#include "util/clock.h"
#include "util/text.h"

namespace memplate::criu {
namespace {

Result<> send_message(int socket, const rpc::Request& request) {
    const std::string bytes = request.SerializeAsString();
    if (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0)
        return fail_errno(errno, "criu: send request");
    return {};
}

Result<rpc::Response> receive_message(int socket) {
    std::array<char, 16384> buffer;
    ssize_t n = 0;
    do {
        n = ::recv(socket, buffer.data(), buffer.size(), 0);
    } while (n < 0 && errno == EINTR);
    if (n < 0) return fail_errno(errno, "criu: receive answer");
    if (n == 0) return fail("criu ended without an answer");
    rpc::Response response;
    if (!response.ParseFromArray(buffer.data(), static_cast<int>(n)))
        return fail("criu: answer not understood");
    return response;
}

Failure refusal(const rpc::Response& response, std::string_view what) {
    std::string message = fmt::format("criu could not {} the process", what);
    if (!response.cr_errmsg().empty()) {
        const std::string reason = failure_reason(response.cr_errmsg());
        message += ": " + (reason.empty() ? std::string(trim(response.cr_errmsg())) : reason);
    }
    auto failure = fail(std::move(message));
    failure.error().code = response.cr_errno();
    return failure;
}

constexpr uint32_t cgroup_mode_ignore = 0;  // the sandbox has placed us already
constexpr uint32_t network_lock_skip = 3;

}  // namespace

Result<> Worker::dump(const DumpRequest& request) {
    rpc::Request message;
    message.set_type(rpc::DUMP);
    auto* options = message.mutable_opts();
    options->set_images_dir_fd(request.images_fd);
    options->set_pid(request.pid);
    options->set_leave_running(request.leave_running);
    options->set_log_level(4);
    options->set_log_file(dump_log);
    options->set_file_locks(true);
    options->set_link_remap(true);
    options->set_ghost_limit(16u << 20);
    options->set_manage_cgroups_mode(cgroup_mode_ignore);
    if (request.skip_network_lock) options->set_network_lock(network_lock_skip);
    TRY(send_message(socket_.get(), message));
    TRY_ASSIGN(const auto response, receive_message(socket_.get()));
    if (!response.success()) return refusal(response, "checkpoint");
    return {};
}

Result<RestoreOutcome> Worker::restore(const RestoreRequest& request) {
    rpc::Request message;
    message.set_type(rpc::RESTORE);
    auto* options = message.mutable_opts();
    options->set_images_dir_fd(request.images_fd);
    options->set_work_dir_fd(request.work_fd);
    options->set_log_level(request.log_level);
    options->set_log_file(restore_log);
    options->set_file_locks(true);
    options->set_manage_cgroups_mode(cgroup_mode_ignore);
    options->set_notify_scripts(true);
    options->set_lazy_pages(request.lazy_pages);
    if (request.skip_network_lock) options->set_network_lock(network_lock_skip);
    for (const InheritedFile& file : request.files) {
        auto* inherited = options->add_inherit_fd();
        inherited->set_key(file.key);
        inherited->set_fd(file.fd);
    }

    RestoreOutcome outcome;
    const Stopwatch watch;
    TRY(send_message(socket_.get(), message));
    for (;;) {
        TRY_ASSIGN(const auto response, receive_message(socket_.get()));
        if (response.type() != rpc::NOTIFY) {
            if (!response.success()) return refusal(response, "restore");
            outcome.times.resumed = watch.milliseconds();
            outcome.pid = response.restore().pid();
            return outcome;
        }
        Result<> verdict;
        if (response.notify().script() == "post-restore") {
            outcome.times.prepared = watch.milliseconds();
            if (request.before_resume) verdict = request.before_resume(response.notify().pid());
        }
        rpc::Request answer;
        answer.set_type(rpc::NOTIFY);
        answer.set_notify_success(verdict.has_value());
        TRY(send_message(socket_.get(), answer));
        if (!verdict) {
            (void)receive_message(socket_.get());  // CRIU kills the tasks before it answers
            return Failure(std::move(verdict.error()));
        }
    }
}

}  // namespace memplate::criu
