// SPDX-License-Identifier: Apache-2.0
#include "gpu/worker.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "gpu/channel_page.h"
#include "util/clock.h"
#include "util/installed.h"
#include "util/message.h"

namespace memplate::gpu {
namespace {

constexpr const char* program = "memplate-gpu-worker";

/// All a started process needs, prepared before: it may call nothing but the kernel.
struct Launch {
    const char* path = nullptr;
    std::vector<char*> argv{};
    std::vector<char*> environment{};
    std::array<int, 2> sources{};  ///< becomes descriptors 3 and 4; both are above them
    int error_output = -1;
    pid_t parent = 0;
    bool outlives_thread = false;
    int64_t* exec_ns = nullptr;
    ExecWatch* exec_watch = nullptr;
};

// In a child that shares the memory of its parent, which waits.
[[noreturn, gnu::no_sanitize_address]] void become_worker(const Launch& launch) {
    // The signal comes when the thread ends that made us.
    if (!launch.outlives_thread) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != launch.parent) ::_exit(126);
    // A terminal's Ctrl-C is memplate's to handle: it ends its workers itself.
    ::setpgid(0, 0);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (launch.error_output >= 0) ::dup2(launch.error_output, STDERR_FILENO);
    for (size_t i = 0; i < launch.sources.size(); ++i)
        if (::dup2(launch.sources[i], static_cast<int>(3 + i)) < 0) ::_exit(126);
    if (launch.exec_watch != nullptr) launch.exec_watch->begin();
    *launch.exec_ns = monotonic_ns();
    ::execve(launch.path, launch.argv.data(), launch.environment.data());
    ::_exit(126);
}

std::string describe_end(int status) {
    if (WIFSIGNALED(status))
        return fmt::format("was killed by signal {} ({})", WTERMSIG(status),
                           ::strsignal(WTERMSIG(status)));
    return fmt::format("exited with status {}", WEXITSTATUS(status));
}

/// A copy of `fd` above descriptors 3 and 4, which the worker gets.
Result<UniqueFd> above_the_rest(const UniqueFd& fd) {
    UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 10));
    if (!copy) return fail_errno(errno, "descriptor");
    return copy;
}

}  // namespace

std::vector<std::string> environment_with(const std::vector<std::string>& added) {
    std::vector<std::string> result;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const std::string_view name = text.substr(0, text.find('=') + 1);
        if (std::ranges::none_of(added, [&](const auto& other) { return other.starts_with(name); }))
            result.emplace_back(text);
    }
    result.insert(result.end(), added.begin(), added.end());
    return result;
}

Result<Worker> Worker::start(const Context& context, Start start) {
    TRY_ASSIGN(const std::string path,
               find_installed(program, "libexec/memplate", "MEMPLATE_GPU_WORKER", X_OK));
    Worker worker;
    worker.task_ = std::move(start.task);
    worker.patience_ = start.patience;
    if (!start.patience_option.empty())
        worker.patience_option_ = fmt::format(" ({})", start.patience_option);
    worker.stop_ = context.stop;

    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fail_errno(errno, "socketpair");
    worker.socket_ = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    const UniqueFd memory(::memfd_create("memplate-gpu-worker", MFD_CLOEXEC));
    if (!memory) return fail_errno(errno, "memfd_create");
    if (::ftruncate(memory.get(), sizeof(Page)) != 0) return fail_errno(errno, "ftruncate");
    TRY_ASSIGN(Page * page, Page::map(memory.get()));
    worker.page_.reset(page);
    TRY_ASSIGN(const UniqueFd socket_copy, above_the_rest(theirs));
    TRY_ASSIGN(const UniqueFd memory_copy, above_the_rest(memory));
    if (start.watch_exec) worker.exec_watch_ = std::make_unique<ExecWatch>();
    UniqueFd nowhere;
    if (start.quiet) {
        TRY_ASSIGN(const UniqueFd null, open_at(AT_FDCWD, "/dev/null", O_WRONLY));
        TRY_ASSIGN(nowhere, above_the_rest(null));
    }

    std::vector<std::string> environment = environment_with(start.environment);
    std::vector<std::string> words = {path, worker.task_};
    Launch launch{.path = path.c_str(),
                  .sources = {socket_copy.get(), memory_copy.get()},
                  .error_output = nowhere.get(),
                  .parent = ::getpid(),
                  .outlives_thread = start.outlives_thread,
                  .exec_ns = &worker.page_->exec_ns,
                  .exec_watch = worker.exec_watch_.get()};
    for (std::string& word : words) launch.argv.push_back(word.data());
    for (std::string& entry : environment) launch.environment.push_back(entry.data());
    launch.argv.push_back(nullptr);
    launch.environment.push_back(nullptr);

    worker.cloned_ns_ = monotonic_ns();
    // vfork: the start must not pay for our own page tables.
    const pid_t pid = ::vfork();  // NOLINT(bugprone-unsafe-functions)
    if (pid < 0) return fail_errno(errno, "vfork");
    if (pid == 0) become_worker(launch);
    worker.pid_ = pid;
    worker.pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!worker.pidfd_) return fail_errno(errno, "pidfd_open");
    TRY(worker.send(start.request));
    return worker;
}

Worker::Worker(Worker&& other) noexcept
    : task_(std::move(other.task_)),
      patience_(other.patience_),
      patience_option_(std::move(other.patience_option_)),
      stop_(std::move(other.stop_)),
      pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      socket_(std::move(other.socket_)),
      page_(std::move(other.page_)),
      exec_watch_(std::move(other.exec_watch_)),
      cloned_ns_(other.cloned_ns_),
      ended_ns_(other.ended_ns_) {}

Worker::~Worker() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    // A call that hangs in the kernel is not to be killed; then its process is init's when we end.
    constexpr int patience_ms = 5000;
    pollfd fd{pidfd_.get(), POLLIN, 0};
    while (::poll(&fd, 1, patience_ms) < 0 && errno == EINTR) {
    }
    ::waitpid(pid_, nullptr, WNOHANG);
}

int64_t Worker::exec_ns() const {
    return page_->exec_ns;
}

int64_t Worker::main_ns() const {
    return page_->main_ns;
}

std::optional<int64_t> Worker::exec_done_ns() const {
    return exec_watch_ ? exec_watch_->end_ns() : std::nullopt;
}

std::string Worker::call() const {
    return page_->call();
}

std::string Worker::where() const {
    return call().empty() ? std::string() : " in " + call();
}

Result<> Worker::wait_for_message() {
    const auto deadline = std::chrono::steady_clock::now() + patience_;
    while (true) {
        // A message that was sent before the end comes before the news of it.
        std::array<pollfd, 2> fds = {pollfd{socket_.get(), POLLIN, 0},
                                     pollfd{pidfd_.get(), POLLIN, 0}};
        const int ready = ::poll(fds.data(), fds.size(), 50);
        if (ready < 0 && errno != EINTR) return fail_errno(errno, "poll");
        if (ready > 0 && (fds[0].revents & POLLIN) != 0) return {};
        if (stop_.stop_requested()) return interrupted();
        if (ready > 0) return std::unexpected(ended());
        if (std::chrono::steady_clock::now() > deadline) {
            Failure hung = fail(fmt::format("the GPU worker hung{}: no answer in {} s{}", where(),
                                            std::chrono::duration<double>(patience_).count(),
                                            patience_option_));
            hung.error().code = ETIMEDOUT;
            return hung;
        }
    }
}

Error Worker::ended() {
    const std::string call = where();
    auto status = wait_for_end();
    if (!status) return std::move(status.error());
    return fail(fmt::format("the GPU worker {}{}", describe_end(*status), call)).error();
}

Result<Json> Worker::receive() {
    std::vector<UniqueFd> descriptors;
    return receive(descriptors);
}

Result<Json> Worker::receive(std::vector<UniqueFd>& descriptors) {
    TRY(wait_for_message());
    TRY_ASSIGN(auto received, receive_json(socket_.get()));
    if (!received) return std::unexpected(ended());
    descriptors = std::move(received->descriptors);
    Json message = std::move(received->message);
    if (message.value("type", "") == "error") {
        Failure failure = fail(static_cast<ErrorKind>(message.value("kind", 1)),
                               message.value("message", "unknown error"));
        failure.error().code = message.value("code", 0);
        return failure;
    }
    return message;
}

Result<> Worker::send(const Json& message, const std::vector<int>& descriptors) {
    if (const int error = send_message(socket_.get(), message.dump(), descriptors); error != 0) {
        if (error != EPIPE && error != ECONNRESET)
            return fail_errno(error, "send to the GPU worker");
        // It may have said why it ended.
        if (auto last = receive(); !last) return std::unexpected(std::move(last.error()));
        return std::unexpected(ended());
    }
    return {};
}

Result<int> Worker::wait_for_end() {
    const auto deadline = std::chrono::steady_clock::now() + patience_;
    pollfd fd{pidfd_.get(), POLLIN, 0};
    while (::poll(&fd, 1, 50) <= 0) {
        if (stop_.stop_requested()) return interrupted();
        if (std::chrono::steady_clock::now() > deadline) {
            Failure hung = fail(
                fmt::format("the GPU worker hung{} at its end: it did not end in {} s{}", where(),
                            std::chrono::duration<double>(patience_).count(), patience_option_));
            hung.error().code = ETIMEDOUT;
            return hung;
        }
    }
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    ended_ns_ = monotonic_ns();
    pid_ = -1;
    return status;
}

Result<> Worker::finish() {
    TRY_ASSIGN(const int status, wait_for_end());
    if (status != 0) return fail(fmt::format("the GPU worker {}{}", describe_end(status), where()));
    return {};
}

void Worker::Unmap::operator()(Page* page) const {
    ::munmap(page, sizeof(Page));
}

}  // namespace memplate::gpu
