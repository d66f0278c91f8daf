// SPDX-License-Identifier: Apache-2.0
#include "instance/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "criu/worker.h"
#include "engine/attached.h"
#include "engine/module_templates.h"
#include "instance/gpu.h"
#include "instance/marks.h"
#include "instance/surroundings.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/proc.h"
#include "util/text.h"

namespace memplate::instance {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int pool_descriptor = 100;          // number of the pool's descriptor in CRIU
constexpr int first_module_descriptor = 101;  // then those of module templates
constexpr std::chrono::microseconds tcp_interval{200};
constexpr std::chrono::minutes gpu_patience{5};  // a call may move all of a device's memory

/// What makes this clone different from its siblings (DESIGN.md D9).
Result<> write_identity(sandbox::Sandbox& sandbox, const Directory& directory,
                        const std::string& name) {
    const Json identity{
        {"instance", directory.id()}, {"template", name}, {"generation", directory.generation()}};
    TRY(sandbox.write_file("/run/memplate/identity.json", identity.dump() + "\n", 0444));
    std::string entropy(64, '\0');
    if (::getrandom(entropy.data(), entropy.size(), 0) != static_cast<ssize_t>(entropy.size()))
        return fail_errno(errno, "getrandom");
    return sandbox.write_file("/run/memplate/entropy", entropy, 0444);
}

std::string describe_status(int status) {
    if (WIFSIGNALED(status))
        return fmt::format("was killed by SIG{}", ::sigabbrev_np(WTERMSIG(status)));
    return fmt::format("exited with status {}", WEXITSTATUS(status));
}

}  // namespace

Result<std::unique_ptr<Instance>> Instance::prepare(const Context& context,
                                                    const Function& function,
                                                    const criu::Installation& criu,
                                                    const Source* source) {
    TRY_ASSIGN(auto directory, Directory::create(context, function.name));
    std::unique_ptr<Instance> instance(new Instance(context, function, criu, std::move(directory)));
    sandbox::Spec spec;
    spec.id = instance->directory_.id();
    spec.root = function.root;
    spec.binds = binds_of(function);
    spec.criu_root = criu.root;
    if (function.gpu) {
        TRY_ASSIGN(auto checkpointer, gpu::Checkpointer::start(context, gpu_patience));
        instance->gpu_.emplace(std::move(checkpointer));
        TRY_ASSIGN(const auto gpu, gpu_binds(instance->gpu_->library()));
        spec.binds.insert(spec.binds.end(), gpu.begin(), gpu.end());
        if (source != nullptr) instance->gpu_state_ = source->gpu;
    }
    TRY_ASSIGN(auto sandbox, sandbox::Sandbox::create(context, spec, instance->directory_.path(),
                                                      instance->directory_.lock()));
    instance->sandbox_.emplace(std::move(sandbox));
    auto& inside = *instance->sandbox_;
    TRY(inside.write_file(output_path, "", 0666));

    TRY_ASSIGN(UniqueFd work,
               open_at(AT_FDCWD, instance->directory_.path(), O_RDONLY | O_DIRECTORY));
    TRY_ASSIGN(instance->work_number_, inside.lend_descriptor(work.get()));
    TRY(write_identity(inside, instance->directory_,
                       source != nullptr ? source->template_name : function.name));
    if (source == nullptr) return instance;

    instance->engine_ = source->images.kind;
    TRY_ASSIGN(UniqueFd images,
               open_at(AT_FDCWD, source->images.directory, O_RDONLY | O_DIRECTORY));
    TRY_ASSIGN(instance->images_number_, inside.lend_descriptor(images.get()));
    instance->memory_ = source->images.memory;
    std::map<int, int> descriptors{{pool_descriptor, source->pool_fd}};
    for (const auto& [number, process] : instance->mapped_templates())
        descriptors.emplace(number, process->memory.fd());
    TRY_ASSIGN(instance->criu_socket_, inside.spawn_criu(descriptors));
    instance->cgroup_ = inside.cgroup_number();
    mark_phase(instance->cgroup_, "sandbox");
    return instance;
}

Result<Launched> Instance::start() {
    sandbox::SpawnRequest request;
    request.argv = function_.command;
    request.environment = environment_of(function_);
    request.working_directory = function_.directory;
    request.minimum_pid = first_template_pid;
    request.output = output_path;

    Launched launched;
    const Stopwatch watch;
    TRY_ASSIGN(launched.pid, sandbox_->spawn(request));
    const double spawned = watch.milliseconds();
    TRY(wait_ready(watch.start() + function_.readiness.timeout));
    launched.ready_ms = watch.milliseconds();
    launched.phases = {{"spawn", spawned}, {"initialise", launched.ready_ms - spawned}};
    return launched;
}

Result<Launched> Instance::restore() {
    criu::RestoreRequest request;
    request.images_fd = images_number_;
    request.work_fd = work_number_;
    request.lazy_pages = engine_ == engine::Kind::lazy;
    request.skip_network_lock = criu_.version >= 40000;
    // --verbose: CRIU's own account of the restore is in the instance's directory.
    request.log_level = context_.log->should_log(spdlog::level::debug) ? 4 : 1;
    if (engine_ == engine::Kind::mapped)
        request.files.push_back({engine::pool_file_key, pool_descriptor});
    for (const auto& [number, process] : mapped_templates())
        request.files.push_back({engine::module_template_key(process->pid), number});
    // What we refused is told in our words: CRIU's log knows only that somebody did.
    std::optional<Error> refused;
    request.before_resume = [&](pid_t pid) {
        root_pid_ = pid;
        auto completed = complete(pid);
        if (!completed) refused = completed.error();
        mark_phase(cgroup_, "resume");
        return completed;
    };

    Launched launched;
    mark_phase(cgroup_, "restore");
    const Stopwatch watch;
    if (request.lazy_pages) {
        TRY(start_lazy_pages());
        launched.phases.emplace_back("lazy-pages daemon", watch.milliseconds());
    }
    const double asked = watch.milliseconds();
    criu::Worker worker(std::move(criu_socket_));
    auto outcome = worker.restore(request);
    if (!outcome && refused)
        return Failure(std::move(*refused).context(fmt::format("function {}", function_.name)));
    if (!outcome) return explain(std::move(outcome.error()), criu::restore_log, "restore");
    launched.pid = outcome->pid;
    launched.phases.emplace_back("rebuild", outcome->times.prepared);
    if (memory_) launched.phases.emplace_back("attach", attach_ms_);
    launched.phases.emplace_back("resume",
                                 outcome->times.resumed - outcome->times.prepared - attach_ms_);
    restored_ = true;
    const double resumed = watch.milliseconds();
    if (gpu_state_.processes_size() > 0) {
        // The processes run, but what they call in the driver waits for this.
        mark_phase(cgroup_, "gpu");
        TRY_ASSIGN(const auto pids, host_pids());
        auto phases = resume_gpu(context_, *gpu_, gpu_state_, pids);
        if (!phases)
            return Failure(
                std::move(phases.error()).context(fmt::format("function {}", function_.name)));
        double checking = watch.milliseconds() - resumed;
        for (const auto& [phase, ms] : *phases) checking -= ms;
        launched.phases.emplace_back("GPU check", checking);
        launched.phases.insert(launched.phases.end(), phases->begin(), phases->end());
    }
    const double gpu_ms = watch.milliseconds() - resumed;
    TRY(wait_ready(watch.start() + function_.readiness.timeout));
    launched.ready_ms = watch.milliseconds();
    mark_phase(cgroup_, "ready");
    launched.phases.emplace_back("ready",
                                 launched.ready_ms - asked - outcome->times.resumed - gpu_ms);
    return launched;
}

Result<> Instance::complete(pid_t root) {
    if (memory_) {
        mark_phase(cgroup_, "attach");
        const Stopwatch watch;
        TRY_ASSIGN(const auto pids, host_pids());
        TRY(memory_->attach(pids));
        attach_ms_ = watch.milliseconds();
    }
    if (function_.clone_signal.empty()) return {};
    TRY_ASSIGN(const int number, signal_number(function_.clone_signal));
    return sandbox_->signal(root, number);
}

std::vector<std::pair<int, const engine::ModuleTemplates::Process*>> Instance::mapped_templates()
    const {
    std::vector<std::pair<int, const engine::ModuleTemplates::Process*>> mapped;
    if (!memory_) return mapped;
    for (const auto& process : memory_->processes())
        if (process.mapped)
            mapped.emplace_back(first_module_descriptor + static_cast<int>(mapped.size()),
                                &process);
    return mapped;
}

Result<> Instance::start_lazy_pages() {
    sandbox::SpawnRequest request;
    request.argv = criu::Installation::command("/run/memplate/criu");
    for (const std::string& word : {std::string("lazy-pages"), std::string("-D"),
                                    fmt::format("/proc/1/fd/{}", images_number_), std::string("-W"),
                                    fmt::format("/proc/1/fd/{}", work_number_), std::string("-v1"),
                                    std::string("-o"), std::string("lazy-pages.log")})
        request.argv.push_back(word);
    request.restrict_capabilities = false;
    TRY(sandbox_->spawn(request));
    // The socket's file is there before anybody listens on it: ask the kernel for the latter.
    const std::string table = fmt::format("/proc/{}/net/unix", sandbox_->keeper());
    const auto listening = [&] {
        constexpr std::string_view accepts_connections = " 00010000 ";
        const auto text = read_file(table);
        if (!text) return false;
        return std::ranges::any_of(split(*text, '\n'), [&](const std::string& line) {
            return line.ends_with("lazy-pages.socket") &&
                   line.find(accepts_connections) != std::string::npos;
        });
    };
    const auto deadline = steady_clock::now() + std::chrono::seconds(10);
    while (!listening()) {
        if (context_.stop.stop_requested()) return interrupted();
        if (steady_clock::now() > deadline)
            return explain(fail("criu lazy-pages does not answer").error(), "lazy-pages.log",
                           "restore");
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return {};
}

std::string Instance::keep_output() const {
    return keep_log(context_, sandbox_->host_path(output_path), directory_.id() + "-output.log");
}

Result<> Instance::check_alive(const std::string& when) {
    TRY_ASSIGN(const auto exit, sandbox_->wait_exit(0));
    if (!exit || exit->pid < root_pid_) return {};
    return fail(fmt::format("function {} {} {}; its output: {}", function_.name,
                            describe_status(exit->status), when, keep_output()));
}

Result<> Instance::wait_ready(steady_clock::time_point deadline) {
    const auto& readiness = function_.readiness;
    // A restored process was ready when it was checkpointed: what it printed then counts.
    if (function_.port == 0 && (restored_ || readiness.kind != ReadinessKind::output)) return {};
    if (restored_ && readiness.kind == ReadinessKind::output) return {};
    for (;;) {
        if (context_.stop.stop_requested()) return interrupted();
        bool ready = false;
        if (readiness.kind == ReadinessKind::output) {
            const auto text = read_file(sandbox_->host_path(output_path));
            ready = text && text->find(readiness.line) != std::string::npos;
            if (!ready) std::this_thread::sleep_for(milliseconds(2));
        } else if (readiness.kind == ReadinessKind::http) {
            HttpRequest probe;
            probe.path = readiness.path;
            const auto answer =
                http_request(sandbox_->address(), function_.port, probe, milliseconds(1000));
            ready = answer && answer->status == 200;
            if (!ready) std::this_thread::sleep_for(milliseconds(1));
        } else {
            const auto slice = std::min(deadline, steady_clock::now() + milliseconds(50));
            const auto connected = wait_for_tcp(sandbox_->address(), function_.port, slice,
                                                tcp_interval, context_.stop);
            ready = connected.has_value();
            if (!connected && connected.error().kind == ErrorKind::interrupted)
                return interrupted();
        }
        if (ready) return {};
        TRY(check_alive("before it was ready"));
        if (steady_clock::now() >= deadline)
            return fail(fmt::format(
                "function {} was not ready within {} ms (readiness.timeout_ms); its output: {}",
                function_.name, readiness.timeout.count(), keep_output()));
    }
}

Result<proto::GpuState> Instance::checkpoint(const std::string& images_directory) {
    TRY(check_alive("before its checkpoint"));
    TRY_ASSIGN(const auto pids, host_pids());
    if (pids.empty())
        return fail(fmt::format("function {}: no process to checkpoint; its output: {}",
                                function_.name, keep_output()));
    proto::GpuState gpu_state;
    if (gpu_) {
        auto parked = park_gpu(context_, *gpu_, pids);
        if (!parked)
            return Failure(
                std::move(parked.error()).context(fmt::format("function {}", function_.name)));
        gpu_state = std::move(*parked);
    }
    TRY_ASSIGN(UniqueFd directory, open_at(AT_FDCWD, images_directory, O_RDONLY | O_DIRECTORY));
    criu::DumpRequest request;
    TRY_ASSIGN(request.images_fd, sandbox_->lend_descriptor(directory.get()));
    request.pid = pids.begin()->first;  // the root has the lowest pid: it was there first
    request.skip_network_lock = criu_.version >= 40000;
    TRY_ASSIGN(UniqueFd socket, sandbox_->spawn_criu({}));
    criu::Worker worker(std::move(socket));
    if (auto dumped = worker.dump(request); !dumped)
        return explain(std::move(dumped.error()),
                       images_directory + "/" + std::string(criu::dump_log), "checkpoint");
    return gpu_state;
}

Failure Instance::explain(Error error, const std::string& log, const std::string& what) const {
    const std::string path = log.starts_with('/') ? log : directory_.path() + "/" + log;
    if (const auto text = read_file(path)) {
        if (const std::string reason = criu::failure_reason(*text); !reason.empty())
            error.message =
                fmt::format("function {}: criu could not {} it: {}", function_.name, what, reason);
    }
    const std::string kept =
        keep_log(context_, path, fmt::format("{}-{}.log", directory_.id(), what));
    error.message += fmt::format("; log: {}", kept);
    return Failure(std::move(error));
}

Result<HttpResponse> Instance::request(const WarmupRequest& request) const {
    TRY_ASSIGN(auto response, http_request(sandbox_->address(), function_.port, request.request,
                                           milliseconds(60000)));
    TRY_CONTEXT(check_answer(request, response),
                fmt::format("function {}: {} {}", function_.name, request.request.method,
                            request.request.path));
    return response;
}

Result<> Instance::warm_up(const std::function<Result<>()>& after_each) const {
    for (const auto& warmup : function_.warmup) {
        for (unsigned i = 0; i < warmup.repeat; ++i) {
            if (context_.stop.stop_requested()) return interrupted();
            TRY(request(warmup));
            if (after_each) TRY(after_each());
        }
    }
    return {};
}

Result<std::map<pid_t, pid_t>> Instance::host_pids() const {
    std::map<pid_t, pid_t> by_inside;
    TRY_ASSIGN(UniqueFd proc, proc::open_host());
    TRY_ASSIGN(const auto pids, sandbox_->processes());
    for (const pid_t pid : pids) {
        const auto inside = proc::namespace_pid(proc.get(), pid);
        if (inside && *inside >= root_pid_) by_inside.emplace(*inside, pid);
    }
    return by_inside;
}

Result<pid_t> Instance::host_pid(pid_t inside) const {
    TRY_ASSIGN(const auto pids, host_pids());
    const auto found = pids.find(inside);
    if (found == pids.end()) return fail(fmt::format("function {} has ended", function_.name));
    return found->second;
}

Result<Record> Instance::release(const Launched& launched, const Record& base) {
    Record record = base;
    record.id = directory_.id();
    record.address = sandbox_->address();
    record.port = function_.port;
    record.keeper = sandbox_->keeper();
    record.ready_ms = launched.ready_ms;
    record.created = unix_time();
    TRY_ASSIGN(record.pid, host_pid(launched.pid));
    TRY(sandbox_->apply_limits({function_.limits.memory_bytes, function_.limits.cpus, {}}));
    TRY(save(directory_, record));
    TRY(sandbox_->release(launched.pid));
    gpu_.reset();
    directory_.keep();
    return record;
}

}  // namespace memplate::instance
