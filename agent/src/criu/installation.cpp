// SPDX-License-Identifier: Apache-2.0
#include "criu/installation.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "util/fs.h"
#include "util/json.h"
#include "util/text.h"

namespace memplate::criu {
namespace {

constexpr const char* binary = "/usr/sbin/criu";

std::string join(const std::string& root, const std::string& path) {
    return root == "/" ? path : root + path;
}

/// What `criu check` said depends on the kernel and on the binary: both are part of the key.
Result<std::string> check_key(const std::string& root) {
    struct stat st{};
    const std::string path = join(root, binary);
    if (::stat(path.c_str(), &st) != 0) return fail_errno(errno, path);
    utsname name{};
    ::uname(&name);
    return fmt::format("{}|{}|{}|{}", static_cast<const char*>(name.release), path, st.st_size,
                       st.st_mtime);
}

Result<> check_works(const std::string& root) {
    TRY_ASSIGN(const RunResult result, run(root, {"check"}));
    if (result.exit_code == 0) return {};
    std::string reason;
    for (const std::string& line : split(result.output, '\n')) {
        const size_t colon = line.find("): ");
        if (line.starts_with("Error") && colon != std::string::npos)
            reason = line.substr(colon + 3);
    }
    return fail(reason.empty() ? fmt::format("criu check ends with {}", result.exit_code) : reason);
}

/// Newer kernels refuse SO_PASSCRED on internet sockets, which CRIU before 4.2 asks every socket
/// for when it checkpoints; `criu check` does not notice.
bool kernel_refuses_passcred() {
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    int value = 0;
    socklen_t length = sizeof(value);
    return socket && ::getsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &value, &length) != 0;
}

Result<int> parse_version(const std::string& output) {
    const size_t colon = output.find("Version: ");
    if (colon == std::string::npos) return fail("criu --version: answer not understood");
    const size_t end = output.find_first_not_of("0123456789.", colon + 9);
    int version = 0;
    int parts = 0;
    for (const std::string& part : split(output.substr(colon + 9, end - colon - 9), '.')) {
        TRY_ASSIGN(const uint64_t number, parse_unsigned(part));
        version = version * 100 + static_cast<int>(std::min<uint64_t>(number, 99));
        ++parts;
    }
    while (parts++ < 3) version *= 100;
    return version;
}

/// Version of the CRIU at `root` if it works here, from the cache where possible.
Result<Installation> examine(const Context& context, const std::string& root) {
    TRY_ASSIGN(const std::string key, check_key(root));
    const std::string cache_path = context.settings.state_dir + "/criu-check.json";
    Json cache = Json::object();
    if (auto text = read_file(cache_path)) cache = Json::parse(*text, nullptr, false);
    if (!cache.is_object()) cache = Json::object();
    if (!cache.contains(key) || !cache[key].is_object()) {
        Json entry = Json::object();
        TRY_ASSIGN(const RunResult version, run(root, {"--version"}));
        TRY_ASSIGN(const int number, parse_version(version.output));
        entry["version"] = number;
        const auto works = check_works(root);
        entry["error"] = works ? "" : works.error().message;
        if (works && number < 40200 && kernel_refuses_passcred())
            entry["error"] = "cannot checkpoint internet sockets on this kernel";
        cache[key] = entry;
        if (make_directories(context.settings.state_dir))
            (void)write_file_atomic(AT_FDCWD, cache_path, cache.dump());
    }
    const Json& entry = cache[key];
    const std::string error = entry.value("error", "");
    if (!error.empty()) return fail(fmt::format("{}: {}", join(root, binary), error));
    Installation installation;
    installation.root = root;
    installation.version = entry.value("version", 0);
    installation.version_text =
        fmt::format("{}.{}.{}", installation.version / 10000, installation.version / 100 % 100,
                    installation.version % 100);
    return installation;
}

std::string extracted_root() {
    const char* cache = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    const std::string base = cache != nullptr && *cache != '\0'
                                 ? std::string(cache)
                                 : std::string(home != nullptr ? home : "/root") + "/.cache";
    return base + "/memplate/criu";
}

}  // namespace

std::vector<std::string> Installation::command(const std::string& root) {
    // Not usr/lib64/ld-linux…: on Debian 12 that is an absolute link, out of `root`.
    return {join(root, "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), "--library-path",
            join(root, "/usr/lib/x86_64-linux-gnu"), join(root, binary)};
}

Result<RunResult> run(const std::string& root, const std::vector<std::string>& args) {
    std::vector<std::string> words = Installation::command(root);
    if (::access(words.back().c_str(), X_OK) != 0) return fail_errno(errno, words.back());
    words.insert(words.end(), args.begin(), args.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    std::array<int, 2> pipe_ends{};
    if (::pipe2(pipe_ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
    UniqueFd reader(pipe_ends[0]);
    UniqueFd writer(pipe_ends[1]);
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child == 0) {
        ::dup2(writer.get(), STDOUT_FILENO);
        ::dup2(writer.get(), STDERR_FILENO);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    writer.reset();
    RunResult result;
    std::array<char, 4096> buffer;
    for (;;) {
        const ssize_t n = ::read(reader.get(), buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        result.output.append(buffer.data(), static_cast<size_t>(n));
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return result;
}

Result<Installation> Installation::find(const Context& context) {
    std::vector<std::string> roots;
    if (!context.settings.criu_root.empty())
        roots = {context.settings.criu_root};
    else
        roots = {"/", extracted_root()};
    std::string reasons;
    for (const std::string& root : roots) {
        auto found = examine(context, root);
        if (found) return found;
        reasons += (reasons.empty() ? "" : "; ") + found.error().message;
    }
    return fail(
        ErrorKind::unsupported,
        fmt::format("no CRIU works on this kernel ({}); run scripts/install-deps run", reasons));
}

}  // namespace memplate::criu
