// SPDX-License-Identifier: Apache-2.0
#include "instance/criu_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "criu/installation.h"
#include "engine/engine.h"
#include "instance/hazards.h"
#include "template/store.h"
#include "util/fs.h"

namespace memplate::instance {
namespace {

constexpr int template_descriptor = 100;

/// Options whose value is the next word: that word is never the command.
constexpr std::array<std::string_view, 35> options_with_value{"-t",
                                                              "--tree",
                                                              "-o",
                                                              "--log-file",
                                                              "-p",
                                                              "--pid",
                                                              "-L",
                                                              "--libdir",
                                                              "-r",
                                                              "--root",
                                                              "-J",
                                                              "--join-ns",
                                                              "-j",
                                                              "--pidfile",
                                                              "--inherit-fd",
                                                              "--external",
                                                              "--cgroup-root",
                                                              "--status-fd",
                                                              "--timeout",
                                                              "--action-script",
                                                              "--veth-pair",
                                                              "--ext-mount-map",
                                                              "--config",
                                                              "--address",
                                                              "--port",
                                                              "--ghost-limit",
                                                              "--cpu-cap",
                                                              "--skip-mnt",
                                                              "--enable-fs",
                                                              "--freeze-cgroup",
                                                              "--cgroup-props",
                                                              "--cgroup-props-file",
                                                              "--lsm-profile",
                                                              "--network-lock",
                                                              "--ps-socket"};

/// Removes `directory` when this process, soon criu, has ended. The watcher is nobody's child in
/// the end, so that criu does not meet it in wait(2).
Result<> remove_at_exit(const std::string& directory) {
    const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
    if (!self) return fail_errno(errno, "pidfd_open");
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child == 0) {
        ::setsid();
        if (::fork() != 0) ::_exit(0);
        pollfd ended{self.get(), POLLIN, 0};
        while (::poll(&ended, 1, -1) < 0 && errno == EINTR) {
        }
        (void)remove_tree(directory);
        ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    return {};
}

/// Every run of mapped pages is one more mapping of the template, opened by criu one by one.
void raise_open_files() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/// Converts the images for engine mapped; returns the new directory, or an empty string if they
/// must be restored as they are.
Result<std::string> convert(const Context& context, const CriuCommandLine& line, bool forced) {
    TRY_ASSIGN(UniqueFd directory,
               open_at(AT_FDCWD, line.images_directory, O_RDONLY | O_DIRECTORY));
    const auto images = criu::ImageSet::load(directory.get());
    if (!images) {
        if (forced) return Failure(Error(images.error()));
        return std::string();  // criu knows best what to say
    }
    auto hazards = find_allocators(*images, "");
    for (const auto& hazard : hazards) {
        if (!forced) return std::string();
        context.log->warn("engine mapped may corrupt memory here: {}", hazard.evidence());
    }
    const auto wiped = find_wiped_areas(*images);
    hazards.insert(hazards.end(), wiped.begin(), wiped.end());

    TRY_ASSIGN(auto store, MemfdPageStore::create());
    Template tmpl;
    tmpl.record.name = line.images_directory;
    tmpl.manifest.set_version(manifest_version);
    LayoutOptions layout;
    layout.unshared = unshared_areas(hazards);
    TRY(store_images(directory.get(), *images, layout, store, tmpl.manifest));
    tmpl.pages = store.source();
    TRY(validate(tmpl.manifest, tmpl.pages));

    TRY_ASSIGN(auto converted, TemporaryDirectory::create(context.settings.cache_dir, "criu"));
    TRY_ASSIGN(UniqueFd out, open_at(AT_FDCWD, converted.path(), O_RDONLY | O_DIRECTORY));
    TRY(engine::write_images(engine::Kind::mapped, tmpl, out.get(),
                             {.restrict_capabilities = false, .volatile_directories = {}}));
    TRY_ASSIGN(UniqueFd sealed, store.seal());
    if (::dup2(sealed.get(), template_descriptor) < 0) return fail_errno(errno, "dup2");
    TRY(remove_at_exit(converted.path()));
    return converted.release();
}

}  // namespace

CriuCommandLine read_command_line(const std::vector<std::string>& arguments) {
    CriuCommandLine line;
    for (size_t i = 0; i < arguments.size(); ++i) {
        const std::string& word = arguments[i];
        if (word == "--") break;  // then comes the command of --exec-cmd
        if (word == "restore") {
            line.restore = true;
        } else if ((word == "-D" || word == "--images-dir") && i + 1 < arguments.size()) {
            line.images_option = ++i;
            line.images_attached = false;
            line.images_directory = arguments[i];
        } else if (word.starts_with("--images-dir=")) {
            line.images_option = i;
            line.images_attached = true;
            line.images_directory = word.substr(13);
        } else if (word.starts_with("-D") && word.size() > 2) {
            line.images_option = i;
            line.images_attached = true;
            line.images_directory = word.substr(2);
        } else if (word == "-W" || word == "--work-dir") {
            line.work_directory = true;
            ++i;
        } else if (word.starts_with("--work-dir=") || (word.starts_with("-W") && word.size() > 2)) {
            line.work_directory = true;
        } else if (std::ranges::find(options_with_value, word) != options_with_value.end()) {
            ++i;
        }
    }
    return line;
}

Result<> exec_criu(const Context& context, std::vector<std::string> arguments,
                   const std::string& engine_name) {
    TRY_ASSIGN(const auto engine, engine::parse_kind(engine_name));
    if (engine == engine::Kind::lazy)
        return fail(ErrorKind::usage,
                    "MEMPLATE_ENGINE=lazy: start criu lazy-pages yourself and use copy");
    if (engine == engine::Kind::attached)
        return fail(ErrorKind::usage,
                    "MEMPLATE_ENGINE=attached: the agent must be there to fill the memory; build a "
                    "template and use memplate run, or use copy or mapped");
    TRY_ASSIGN(const auto installation, criu::Installation::find(context));
    const CriuCommandLine line = read_command_line(arguments);
    if (line.restore && engine != engine::Kind::copy) {
        TRY_ASSIGN(const std::string converted, convert(context, line, engine.has_value()));
        if (!converted.empty()) {
            const bool named = line.images_option != 0 || line.images_attached;
            if (named)
                arguments[line.images_option] =
                    line.images_attached ? "--images-dir=" + converted : converted;
            // In front: behind "--" they would be the command's of --exec-cmd.
            std::vector<std::string> added{
                "--inherit-fd",
                fmt::format("fd[{}]:{}", template_descriptor, engine::pool_file_key)};
            if (!named) added.insert(added.end(), {"-D", converted});
            // Logs and pid files stay where the caller looks for them.
            if (!line.work_directory) added.insert(added.end(), {"-W", line.images_directory});
            arguments.insert(arguments.begin(), added.begin(), added.end());
        }
    }
    std::vector<std::string> words = criu::Installation::command(installation.root);
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    raise_open_files();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execv(argv[0], argv.data());
    return fail_errno(errno, argv[0]);
}

}  // namespace memplate::instance
