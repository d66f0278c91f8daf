// SPDX-License-Identifier: Apache-2.0
#include "gpu/mps.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "gpu/worker.h"
#include "util/text.h"

namespace memplate::gpu {
namespace {

constexpr const char* control_program = "nvidia-cuda-mps-control";
constexpr auto poll_interval = std::chrono::milliseconds(20);
constexpr auto quit_patience = std::chrono::seconds(10);
constexpr auto term_patience = std::chrono::seconds(2);

/// Starts a program with these descriptors as standard input and output. It ends when we do.
Result<pid_t> spawn(std::vector<std::string> words, std::vector<std::string> environment, int in,
                    int out) {
    std::vector<char*> argv;
    std::vector<char*> variables;
    for (std::string& word : words) argv.push_back(word.data());
    for (std::string& entry : environment) variables.push_back(entry.data());
    argv.push_back(nullptr);
    variables.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return fail_errno(errno, "fork");
    if (pid > 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(126);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::setpgid(0, 0);  // Ctrl-C is ours to handle
    if (::dup2(in, STDIN_FILENO) < 0 || ::dup2(out, STDOUT_FILENO) < 0 ||
        ::dup2(out, STDERR_FILENO) < 0)
        ::_exit(126);
    ::execve(argv[0], argv.data(), variables.data());
    ::_exit(126);
}

/// The wait status, or nothing if it still runs after that time, or when a stop is requested.
std::optional<int> wait_for(pid_t pid, std::chrono::milliseconds patience,
                            const std::stop_token& stop = {}) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (true) {
        int status = 0;
        const pid_t ended = ::waitpid(pid, &status, WNOHANG);
        if (ended == pid) return status;
        if (ended < 0 && errno != EINTR) return 0;
        if (std::chrono::steady_clock::now() >= deadline || stop.stop_requested())
            return std::nullopt;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

/// It and what it started.
void kill_and_wait(pid_t pid) {
    ::kill(-pid, SIGKILL);
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
}

std::string last_line(std::string_view text) {
    text = trim(text);
    return std::string(text.substr(text.rfind('\n') + 1));
}

}  // namespace

Result<std::string> MpsDaemon::find() {
    const char* path = std::getenv("PATH");
    for (const std::string& folder : split(path != nullptr ? path : "", ':')) {
        std::string candidate = folder + "/" + control_program;
        if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    return fail(ErrorKind::unsupported,
                fmt::format("no {} in PATH; it comes with NVIDIA's driver (package "
                            "nvidia-compute-utils or nvidia-driver-cuda)",
                            control_program));
}

Result<MpsDaemon> MpsDaemon::start(const Context& context, const std::string& device_uuid,
                                   std::chrono::milliseconds patience) {
    MpsDaemon daemon;
    TRY_ASSIGN(daemon.program_, find());
    daemon.device_uuid_ = device_uuid;
    daemon.patience_ = patience;
    // The paths of its sockets have to be short.
    TRY_ASSIGN(daemon.folder_,
               TemporaryDirectory::create(std::filesystem::temp_directory_path().string(), "mps"));
    for (const char* name : {"/pipe", "/log"})
        TRY(make_private_directory(daemon.folder_.path() + name));
    TRY_ASSIGN(const UniqueFd nothing, open_at(AT_FDCWD, "/dev/null", O_RDONLY));
    TRY_ASSIGN(const UniqueFd output,
               open_at(AT_FDCWD, daemon.folder_.path() + "/output", O_CREAT | O_WRONLY, 0600));
    TRY_ASSIGN(daemon.pid_,
               spawn({daemon.program_, "-f"}, environment_with(daemon.client_environment(0)),
                     nothing.get(), output.get()));
    TRY(daemon.wait_until_it_answers(context));
    return daemon;
}

Result<> MpsDaemon::wait_until_it_answers(const Context& context) {
    const auto deadline = std::chrono::steady_clock::now() + patience_;
    while (true) {
        if (wait_for(pid_, poll_interval)) {
            pid_ = -1;
            return fail(ErrorKind::unsupported,
                        fmt::format("{} ended at once: {}", program_, last_words()));
        }
        if (command("get_server_list", patience_, context.stop)) return {};
        if (context.stop.stop_requested()) return interrupted();
        if (std::chrono::steady_clock::now() > deadline)
            return fail(fmt::format("{} does not answer: {}", program_, last_words()));
    }
}

std::string MpsDaemon::last_words() const {
    for (const char* name : {"/output", "/log/control.log"})
        if (const auto text = read_file(folder_.path() + name))
            if (std::string line = last_line(*text); !line.empty()) return line;
    return "without a reason";
}

Result<std::string> MpsDaemon::command(const std::string& words, std::chrono::milliseconds patience,
                                       const std::stop_token& stop) const {
    const UniqueFd in(::memfd_create("mps-command", MFD_CLOEXEC));
    const UniqueFd out(::memfd_create("mps-answer", MFD_CLOEXEC));
    if (!in || !out) return fail_errno(errno, "memfd_create");
    TRY(pwrite_all(in.get(), bytes_of(words + "\n"), 0));
    TRY_ASSIGN(const pid_t pid,
               spawn({program_}, environment_with(client_environment(0)), in.get(), out.get()));
    const auto status = wait_for(pid, patience, stop);
    if (!status) {
        kill_and_wait(pid);
        if (stop.stop_requested()) return interrupted();
        return fail(fmt::format("{}: hung at {}", program_, words));
    }
    TRY_ASSIGN(const uint64_t size, file_size(out.get()));
    std::string answer(size, '\0');
    TRY(pread_exact(out.get(), writable_bytes_of(answer), 0));
    if (*status != 0) return fail(fmt::format("{}: {}: {}", program_, words, last_line(answer)));
    return answer;
}

std::vector<std::string> MpsDaemon::client_environment(int thread_percentage) const {
    // With the daemon's device set as here, client and daemon count devices alike.
    std::vector<std::string> result = {"CUDA_VISIBLE_DEVICES=" + device_uuid_,
                                       "CUDA_MPS_PIPE_DIRECTORY=" + folder_.path() + "/pipe",
                                       "CUDA_MPS_LOG_DIRECTORY=" + folder_.path() + "/log"};
    if (thread_percentage > 0)
        result.push_back(fmt::format("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE={}", thread_percentage));
    return result;
}

std::vector<std::string> MpsDaemon::no_client_environment() {
    // A folder that is never there.
    return {"CUDA_MPS_PIPE_DIRECTORY=/nonexistent"};
}

MpsDaemon::MpsDaemon(MpsDaemon&& other) noexcept
    : program_(std::move(other.program_)),
      device_uuid_(std::move(other.device_uuid_)),
      folder_(std::move(other.folder_)),
      patience_(other.patience_),
      pid_(std::exchange(other.pid_, -1)) {}

MpsDaemon::~MpsDaemon() {
    if (pid_ > 0) quit();
}

void MpsDaemon::quit() {
    // Nobody can interrupt this.
    const bool heard =
        command("quit", std::min<std::chrono::milliseconds>(patience_, quit_patience)).has_value();
    if (!heard || !wait_for(pid_, quit_patience)) {
        ::kill(pid_, SIGTERM);
        if (!wait_for(pid_, term_patience)) kill_and_wait(pid_);
    }
    pid_ = -1;
}

}  // namespace memplate::gpu
