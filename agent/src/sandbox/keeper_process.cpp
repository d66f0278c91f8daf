// SPDX-License-Identifier: Apache-2.0
#include "sandbox/keeper_process.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>

namespace memplate::keeper {
namespace {

/// What docker and containerd leave to a container.
constexpr int default_capabilities[] = {
    CAP_CHOWN,      CAP_DAC_OVERRIDE, CAP_FOWNER,      CAP_FSETID,           CAP_KILL,
    CAP_SETGID,     CAP_SETUID,       CAP_SETPCAP,     CAP_NET_BIND_SERVICE, CAP_NET_RAW,
    CAP_SYS_CHROOT, CAP_MKNOD,        CAP_AUDIT_WRITE, CAP_SETFCAP};

/// What the child tells its parent when it cannot become the program.
struct StartFailure {
    int code;
    char step[60];
};

[[noreturn]] void give_up(int report, const char* step) {
    StartFailure failure{errno, {}};
    std::snprintf(failure.step, sizeof failure.step, "%s", step);
    (void)!::write(report, &failure, sizeof failure);
    ::_exit(127);
}

/// False with errno set. The bounding set comes first: it needs CAP_SETPCAP.
bool drop_capabilities() {
    uint64_t keep = 0;
    for (const int capability : default_capabilities) keep |= uint64_t{1} << capability;
    uint64_t bounding = 0;
    for (int capability = 0; capability < 64; ++capability) {
        const int present = ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        if (present < 0) break;  // the kernel knows no more
        if (present == 0) continue;
        if ((keep >> capability & 1) != 0) {
            bounding |= uint64_t{1} << capability;
        } else if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
            return false;
        }
    }
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return false;
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> data{};
    for (size_t half = 0; half < data.size(); ++half)
        data[half].effective = data[half].permitted = static_cast<uint32_t>(bounding >> 32 * half);
    return ::syscall(SYS_capset, &header, data.data()) == 0;
}

bool set_descriptor_limit(bool raise) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
    // The keeper itself runs at the hard limit (it holds what was lent); programs expect a soft
    // limit that select(2) can live with.
    limit.rlim_cur = raise ? limit.rlim_max : std::min<rlim_t>(limit.rlim_max, 1024);
    return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (const auto& string : strings) result.push_back(const_cast<char*>(string.c_str()));
    result.push_back(nullptr);
    return result;
}

[[noreturn]] void run_child(const ChildSpec& spec, int report) {
    // Everything the program gets moves above the numbers it is to have, then down to them.
    int base = 10;
    for (const auto& [target, source] : spec.descriptors) base = std::max(base, target + 1);
    report = ::fcntl(report, F_DUPFD_CLOEXEC, base);
    if (report < 0) ::_exit(127);
    std::vector<std::pair<int, int>> moved;
    for (const auto& [target, source] : spec.descriptors) {
        moved.emplace_back(target, ::fcntl(source, F_DUPFD_CLOEXEC, base));
        if (moved.back().second < 0) give_up(report, "duplicate a descriptor");
    }

    ::setsid();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::umask(022);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || ::dup2(null, 0) < 0) give_up(report, "/dev/null");
    if (!spec.log_output) {
        int output = null;
        if (!spec.output.empty()) {
            if (!make_parents(spec.output)) give_up(report, "directory of the output file");
            output = ::open(spec.output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        }
        if (output < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0)
            give_up(report, "output file");
    }
    for (const auto& [target, source] : moved) {
        if (::dup2(source, target) < 0) give_up(report, "place a descriptor");
    }
    if (::chdir(spec.working_directory.c_str()) != 0) give_up(report, "working directory");
    if (!set_descriptor_limit(spec.raise_descriptor_limit)) give_up(report, "descriptor limit");
    if (spec.restrict_capabilities && !drop_capabilities()) give_up(report, "drop capabilities");

    auto argv = pointers(spec.argv);
    auto environment = pointers(spec.environment);
    ::environ = environment.data();  // its PATH finds the program
    ::execvp(argv[0], argv.data());
    give_up(report, "execute");
}

}  // namespace

Outcome<pid_t> start_child(const ChildSpec& spec) {
    if (spec.argv.empty()) return std::unexpected(Fault{EINVAL, "no command given"});
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fault(errno, "pipe");
    Descriptor reader(ends[0]);
    Descriptor writer(ends[1]);
    const pid_t pid = ::fork();
    if (pid < 0) return fault(errno, "fork");
    if (pid == 0) run_child(spec, writer.get());
    writer = Descriptor();

    StartFailure failure{};
    ssize_t n = -1;
    do {
        n = ::read(reader.get(), &failure, sizeof failure);
    } while (n < 0 && errno == EINTR);
    if (n == 0) return pid;  // closed by a successful execve
    ::waitpid(pid, nullptr, 0);
    if (n != static_cast<ssize_t>(sizeof failure)) return fault(EIO, "start " + spec.argv[0]);
    return fault(failure.code, "start " + spec.argv[0] + ": " + failure.step);
}

Outcome<> advance_pid(int last_pid, pid_t minimum) {
    if (minimum <= 1) return {};
    std::array<char, 32> text{};
    if (::pread(last_pid, text.data(), text.size() - 1, 0) <= 0) return fault(errno, "ns_last_pid");
    if (std::atol(text.data()) >= minimum - 1) return {};
    const std::string wanted = std::to_string(minimum - 1);
    if (::pwrite(last_pid, wanted.data(), wanted.size(), 0) < 0)
        return fault(errno, "start at pid " + std::to_string(minimum));
    return {};
}

std::optional<std::pair<pid_t, int>> reap() {
    int status = 0;
    pid_t pid = -1;
    do {
        pid = ::waitpid(-1, &status, WNOHANG | __WALL);
    } while (pid < 0 && errno == EINTR);
    if (pid <= 0) return std::nullopt;
    return std::pair(pid, status);
}

}  // namespace memplate::keeper
