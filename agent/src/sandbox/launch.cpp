// SPDX-License-Identifier: Apache-2.0
#include "sandbox/launch.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "sandbox/message.h"
#include "util/installed.h"

namespace memplate::sandbox {
namespace {

constexpr const char* program = "memplate-keeper";

/// All a started process needs, prepared before: it may call nothing but the kernel.
struct Start {
    const char* path = nullptr;
    std::array<char*, 3> argv{};
    std::array<char*, 1> environment{};
    std::array<int, 6> sources{};  ///< becomes descriptors 0 to 5; all are above them
    int process = -1;              ///< pidfd
    pid_t pid = -1;
    int error = 0;
};

// Both run on a stack that AddressSanitizer does not know.
[[noreturn, gnu::no_sanitize_address]] void become_keeper(const Start& start) {
    for (size_t i = 0; i < start.sources.size(); ++i) {
        if (::dup2(start.sources[i], static_cast<int>(i)) < 0) ::_exit(126);
    }
    ::syscall(SYS_close_range, static_cast<unsigned>(start.sources.size()), ~0U, 0);
    ::execve(start.path, start.argv.data(), start.environment.data());
    constexpr std::string_view message = "memplate-keeper could not be executed\n";
    (void)!::write(STDERR_FILENO, message.data(), message.size());
    ::_exit(126);
}

/// Runs in a process that shares memory and descriptors with this one, which waits (as after
/// vfork), and ends at once: its child, the keeper, is then nobody's to reap but init's.
[[gnu::no_sanitize_address]] int start_and_leave(void* argument) {
    auto& start = *static_cast<Start*>(argument);
    clone_args args{};
    args.flags =
        CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD;
    args.pidfd = reinterpret_cast<uintptr_t>(&start.process);
    args.exit_signal = SIGCHLD;
    const long pid = ::syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) become_keeper(start);
    if (pid < 0) start.error = errno;
    start.pid = static_cast<pid_t>(pid);
    return 0;
}

class Stack {
  public:
    static constexpr size_t size = 256 << 10;
    Stack()
        : memory_(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0)) {}
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;
    ~Stack() {
        if (memory_ != MAP_FAILED) ::munmap(memory_, size);
    }
    [[nodiscard]] void* top() const {
        return memory_ == MAP_FAILED ? nullptr : static_cast<char*>(memory_) + size;
    }

  private:
    void* memory_;
};

Result<> run_start(Start& start) {
    const Stack stack;
    if (stack.top() == nullptr) return fail_errno(errno, "stack");
    // A handler of this process must not run in the one that shares its memory.
    sigset_t all;
    sigset_t previous;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &previous);
    // No exit signal: whoever waits for children of this process does not see it.
    const pid_t helper =
        ::clone(start_and_leave, stack.top(), CLONE_VM | CLONE_VFORK | CLONE_FILES, &start);
    const int error = errno;
    if (helper > 0) {
        while (::waitpid(helper, nullptr, __WCLONE) < 0 && errno == EINTR) {
        }
    }
    ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
    if (helper < 0) return fail_errno(error, "start a keeper");
    if (start.error == EPERM)
        return fail(ErrorKind::unsupported, "new namespaces: not permitted; run memplate as root");
    if (start.error != 0) return fail_errno(start.error, "new namespaces");
    return {};
}

}  // namespace

Result<Keeper> launch_keeper(const std::string& id, const std::string& directory,
                             const UniqueFd& lock) {
    TRY_ASSIGN(const std::string path,
               find_installed(program, "libexec/memplate", "MEMPLATE_KEEPER", X_OK));
    TRY_ASSIGN(const UniqueFd null, open_at(AT_FDCWD, "/dev/null", O_RDWR));
    TRY_ASSIGN(const UniqueFd log,
               open_at(AT_FDCWD, directory + "/keeper.log", O_WRONLY | O_CREAT | O_APPEND, 0644));
    TRY_ASSIGN(const UniqueFd folder, open_at(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY));
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return fail_errno(errno, "socket pair");
    Keeper keeper;
    keeper.socket = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    // A long environment must fit into one message.
    const int buffer = 4 << 20;
    ::setsockopt(keeper.socket.get(), SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);

    std::vector<UniqueFd> sources;
    for (const int fd :
         {null.get(), log.get(), log.get(), theirs.get(), folder.get(), lock.get()}) {
        sources.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 10));
        if (!sources.back()) return fail_errno(errno, "duplicate a descriptor");
    }
    static_assert(control_descriptor == 3 && directory_descriptor == 4 && lock_descriptor == 5);

    std::string name = program;
    std::string argument = id;
    Start start;
    start.path = path.c_str();
    start.argv = {name.data(), argument.data(), nullptr};
    for (size_t i = 0; i < sources.size(); ++i) start.sources[i] = sources[i].get();
    TRY(run_start(start));
    keeper.pid = start.pid;
    keeper.process = UniqueFd(start.process);
    return keeper;
}

Result<bool> wait_process_end(const UniqueFd& process, std::chrono::milliseconds timeout) {
    pollfd wait{process.get(), POLLIN, 0};
    int ready = 0;
    do {
        ready = ::poll(&wait, 1, static_cast<int>(timeout.count()));
    } while (ready < 0 && errno == EINTR);
    if (ready < 0) return fail_errno(errno, "poll");
    return ready > 0;
}

}  // namespace memplate::sandbox
