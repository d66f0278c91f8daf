// SPDX-License-Identifier: Apache-2.0
#include "util/command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "util/clock.h"
#include "util/text.h"

namespace memplate {
namespace {

struct Pipe {
    UniqueFd read;
    UniqueFd write;
    static Result<Pipe> create() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
        return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
    }
};

/// In the child of a process that may have threads: only what is safe after a fork.
[[noreturn]] void become(char* const* words, char* const* environment, int go, int failed,
                         int stamp, int out, int error) {
    // Nobody would be there to end it, nor its cgroup.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    char byte = 0;
    if (::read(go, &byte, 1) != 1) ::_exit(127);
    if (out >= 0) ::dup2(out, STDOUT_FILENO);
    if (error >= 0) ::dup2(error, STDERR_FILENO);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const int64_t now = monotonic_ns();
    (void)!::pwrite(stamp, &now, sizeof now, 0);
    ::execvpe(words[0], words, environment);
    const int reason = errno;
    (void)!::write(failed, &reason, sizeof reason);
    ::_exit(127);
}

std::vector<char*> pointers_to(const std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (const std::string& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
    pointers.push_back(nullptr);
    return pointers;
}

/// Ours with `added` in place of those of the same names.
std::vector<char*> environment_with(const std::vector<std::string>& added) {
    std::vector<char*> result = pointers_to(added);
    result.pop_back();
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const std::string_view name = text.substr(0, text.find('=') + 1);
        if (std::ranges::none_of(added, [&](const auto& other) { return other.starts_with(name); }))
            result.push_back(*entry);
    }
    result.push_back(nullptr);
    return result;
}

}  // namespace

Result<Command> Command::prepare(const std::vector<std::string>& words, const MemoryCgroup* cgroup,
                                 const Options& options) {
    if (words.empty()) return fail(ErrorKind::usage, "no command given; write it after --");
    TRY_ASSIGN(Pipe go, Pipe::create());
    TRY_ASSIGN(Pipe failed, Pipe::create());
    const std::vector<char*> pointers = pointers_to(words);
    const std::vector<char*> environment = environment_with(options.environment);
    Command command;
    TRY_ASSIGN(command.stamp_, memory_file("exec"));
    command.name_ = words.front();
    command.pid_ = ::fork();
    if (command.pid_ < 0) return fail_errno(errno, "fork");
    if (command.pid_ == 0) {
        go.write.reset();
        become(pointers.data(), environment.data(), go.read.get(), failed.write.get(),
               command.stamp_.get(), options.out, options.error);
    }
    command.go_ = std::move(go.write);
    command.listens_ = std::move(go.read);
    command.failed_ = std::move(failed.read);
    command.pidfd_ = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, command.pid_, 0)));
    if (!command.pidfd_) return fail_errno(errno, "pidfd_open");
    if (cgroup != nullptr)
        TRY_CONTEXT(cgroup->place(command.pid_), "move the command into its cgroup");
    return command;
}

Command::Command(Command&& other) noexcept
    : name_(std::move(other.name_)),
      pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      go_(std::move(other.go_)),
      listens_(std::move(other.listens_)),
      failed_(std::move(other.failed_)),
      stamp_(std::move(other.stamp_)),
      exec_ns_(other.exec_ns_) {}

Command::~Command() {
    if (pid_ <= 0) return;
    kill();
    (void)wait();
}

Result<> Command::release() {
    // Only its own end of the pipe is left once it has executed the command, and that closes then.
    if (::write(go_.get(), "", 1) != 1) return fail_errno(errno, name_);
    go_.reset();
    listens_.reset();
    int reason = 0;
    ssize_t size = 0;
    do {
        size = ::read(failed_.get(), &reason, sizeof reason);
    } while (size < 0 && errno == EINTR);
    failed_.reset();
    if (size == 0) {
        TRY_ASSIGN(const uint64_t stamped, file_size(stamp_.get()));
        if (stamped != 0)
            return pread_exact(stamp_.get(), std::as_writable_bytes(std::span(&exec_ns_, 1)), 0);
        TRY_ASSIGN(const int status, wait());
        return fail(fmt::format("{} {} before it was executed", name_, describe_status(status)));
    }
    (void)wait();
    return fail_errno(size == sizeof reason ? reason : EIO, "cannot execute " + name_);
}

void Command::kill() const {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}

Result<int> Command::wait() {
    int status = 0;
    pid_t waited = 0;
    do {
        waited = ::waitpid(pid_, &status, 0);
    } while (waited < 0 && errno == EINTR);
    if (waited < 0) return fail_errno(errno, "wait for " + name_);
    pid_ = -1;
    return status;
}

std::string describe_status(int status) {
    if (WIFSIGNALED(status)) return fmt::format("was killed by signal {}", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0) return fmt::format("exited with status {}", WEXITSTATUS(status));
    return {};
}

Result<UniqueFd> memory_file(const char* name) {
    UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
    if (!fd) return fail_errno(errno, "memfd_create");
    return fd;
}

Result<std::string> run_and_read(const std::vector<std::string>& words) {
    TRY_ASSIGN(const UniqueFd out, memory_file("output"));
    TRY_ASSIGN(const UniqueFd error, memory_file("errors"));
    TRY_ASSIGN(Command command,
               Command::prepare(words, nullptr, {.out = out.get(), .error = error.get()}));
    TRY(command.release());
    TRY_ASSIGN(const int status, command.wait());
    const auto text_of = [](const UniqueFd& fd) -> Result<std::string> {
        TRY_ASSIGN(const uint64_t size, file_size(fd.get()));
        std::string text(size, '\0');
        TRY(pread_exact(fd.get(), writable_bytes_of(text), 0));
        return text;
    };
    if (status == 0) return text_of(out);
    TRY_ASSIGN(const std::string complaint, text_of(error));
    const auto lines = split(trim(complaint), '\n');
    return fail(fmt::format("{} {}: {}", words.front(), describe_status(status), lines.back()));
}

}  // namespace memplate
