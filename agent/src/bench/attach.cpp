// SPDX-License-Identifier: Apache-2.0
#include "bench/attach.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/logger.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string_view>

#include "bench/attach_variants.h"
#include "bench/environment.h"
#include "util/clock.h"
#include "util/stats.h"

namespace memplate::bench {
namespace {

constexpr uint64_t page_size = 4096;
constexpr uint64_t written_part = 16;  // one page of so many

/// Nanoseconds; in a machine with --icount, instructions.
uint64_t now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

/// What the measured process tells; in memory shared with it.
struct Told {
    int error = 0;
    uint64_t wrong_pages = 0;
    uint64_t fill = 0;
    uint64_t read_all = 0;
    uint64_t cow = 0;
    uint64_t fork = 0;
    uint64_t exit_at = 0;
};

struct Unmap {
    void operator()(Told* told) const { ::munmap(told, sizeof(Told)); }
};
using SharedTold = std::unique_ptr<Told, Unmap>;

Result<SharedTold> make_told() {
    void* memory =
        ::mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return fail_errno(errno, "mmap");
    return SharedTold(new (memory) Told());
}

struct Pipe {
    UniqueFd read;
    UniqueFd write;
    static Result<Pipe> create() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno(errno, "pipe");
        return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
    }
    void tell() const {
        const char byte = 0;
        (void)!::write(write.get(), &byte, 1);
    }
    /// False if the other side is gone.
    [[nodiscard]] bool hear() const {
        char byte = 0;
        ssize_t n = -1;
        do {
            n = ::read(read.get(), &byte, 1);
        } while (n < 0 && errno == EINTR);
        return n == 1;
    }
};

// In a forked copy of a process with threads: nothing here allocates memory or takes a lock.

void use_pages(uint64_t pages, Told& told) {
    auto* memory = reinterpret_cast<volatile unsigned char*>(attach_address);
    uint64_t start = now();
    uint64_t wrong = 0;
    for (uint64_t page = 0; page < pages; ++page)
        wrong += memory[page * page_size] != AttachSource::first_byte(page) ? 1 : 0;
    told.read_all = now() - start;
    told.wrong_pages = wrong;
    start = now();
    for (uint64_t page = 0; page < pages; page += written_part) memory[page * page_size + 8] = 1;
    told.cow = now() - start;
}

int measure_fork(Told& told) {
    const uint64_t start = now();
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    told.fork = now() - start;
    if (child < 0) return errno;
    ::waitpid(child, nullptr, 0);
    return 0;
}

[[noreturn]] void be_measured(const AttachVariant& variant, uint64_t pages, const Pipe& mapped,
                              const Pipe& filled, Told& told) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    told.error = variant.map();
    mapped.tell();
    if (told.error == 0 && filled.hear()) {
        const uint64_t start = now();
        told.error = variant.fill_self();
        told.fill = now() - start;
        if (told.error == 0) {
            use_pages(pages, told);
            told.error = measure_fork(told);
        }
    }
    told.exit_at = now();
    ::_exit(0);
}

using Samples = std::map<std::string, std::vector<double>>;

Result<> measure(const AttachVariant& variant, uint64_t bytes, Samples& samples) {
    TRY_ASSIGN(const SharedTold told, make_told());
    TRY_ASSIGN(const Pipe mapped, Pipe::create());
    TRY_ASSIGN(const Pipe filled, Pipe::create());
    const pid_t child = ::fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child == 0) be_measured(variant, bytes / page_size, mapped, filled, *told);

    Result<> attached;
    uint64_t attach = 0;
    if (mapped.hear() && told->error == 0) {
        const uint64_t start = now();
        attached = variant.fill_other(child);
        attach = now() - start;
        if (attached)
            filled.tell();
        else
            ::kill(child, SIGKILL);
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    const uint64_t ended = now();
    TRY_CONTEXT(attached, variant.name());
    if (told->error != 0) return fail_errno(told->error, variant.name());
    if (!WIFEXITED(status))
        return fail(fmt::format("{}: the measured process was killed by signal {}", variant.name(),
                                WTERMSIG(status)));
    if (told->wrong_pages != 0)
        return fail(
            fmt::format("{}: {} pages had wrong contents", variant.name(), told->wrong_pages));
    // What the process did itself counts; who fills it from outside does so while it waits.
    samples["attach"].push_back(static_cast<double>(std::max(attach, told->fill)));
    samples["read_all"].push_back(static_cast<double>(told->read_all));
    samples["cow_1_16"].push_back(static_cast<double>(told->cow));
    samples["fork"].push_back(static_cast<double>(told->fork));
    samples["exit"].push_back(static_cast<double>(ended - told->exit_at));
    return {};
}

using Variants = std::vector<std::unique_ptr<AttachVariant>>;

Result<Variants> make_variants(const AttachSource& source, const std::vector<AttachPages>& wanted,
                               Json& skipped) {
    const uint64_t pages = source.bytes() / page_size;
    const std::vector<PagePart> all{{0, pages}};
    Variants variants;
    const auto module = engine::Module::open();
    const auto add_attached = [&](const std::string& name,
                                  const std::vector<PagePart>& shared) -> Result<> {
        auto variant = module ? attached_variant(*module, source, name, shared)
                              : Result<std::unique_ptr<AttachVariant>>(Failure(module.error()));
        if (variant)
            variants.push_back(std::move(*variant));
        else if (variant.error().kind == ErrorKind::unsupported)
            skipped[name] = variant.error().message;
        else
            return Failure(std::move(variant.error()));
        return {};
    };
    for (const AttachPages& one : wanted) {
        const std::string name = "attached" + one.name;
        const std::vector<PagePart> parts = spread(pages, one.part);
        TRY(add_attached(name, parts));
        if (!one.working_set) continue;
        // As many pages: the difference is the pieces.
        uint64_t count = 0;
        for (const PagePart& part : parts) count += part.count;
        TRY(add_attached(name + "-in-one", {{0, count}}));
    }
    variants.push_back(memfd_variant(source, "memfd-populate", all));
    variants.push_back(memfd_variant(source, "memfd-lazy", {}));
    variants.push_back(copy_variant(source));
    return variants;
}

/// As summarize(), the median under the name of the unit.
Json summary(const std::string& unit, const std::vector<double>& values) {
    const Json plain = summarize(values);
    Json named = Json::object();
    for (const auto& [key, value] : plain.items()) named[key == "p50" ? unit : key] = value;
    return named;
}

Result<> measure_size(const Context& context, const AttachRequest& request, uint64_t bytes,
                      Json& report) {
    TRY_ASSIGN(const auto source, AttachSource::create(bytes));
    TRY_ASSIGN(const auto variants, make_variants(source, request.pages, report["skipped"]));
    std::vector<Samples> samples(variants.size());
    context.progress->step(fmt::format("measuring {} MiB", bytes >> 20),
                           request.runs * variants.size());
    for (unsigned run = 0; run < request.runs; ++run) {
        for (size_t i = 0; i < variants.size(); ++i) {
            if (context.stop.stop_requested()) return interrupted();
            // Another order in every round.
            const size_t which = (i + run) % variants.size();
            TRY(measure(*variants[which], bytes, samples[which]));
            context.progress->advance();
        }
    }
    const auto unit = report["unit"].get<std::string>();
    for (size_t i = 0; i < variants.size(); ++i) {
        Json run{{"variant", variants[i]->name()}, {"size_mb", bytes >> 20}};
        for (const char* what : {"attach", "read_all", "cow_1_16", "fork", "exit"})
            run[what] = summary(unit, samples[i][what]);
        report["runs"].push_back(std::move(run));
    }
    return {};
}

}  // namespace

Result<AttachPages> parse_attach_pages(const std::string& text) {
    constexpr std::string_view profile = "profile:";
    if (text == "eager") return AttachPages{"", 1.0, false};
    if (text == "lazy") return AttachPages{"-lazy", 0.0, false};
    if (!text.starts_with(profile))
        return fail(ErrorKind::usage,
                    fmt::format("--pages {}: choose eager, lazy or profile:PART", text));
    const std::string_view number = std::string_view(text).substr(profile.size());
    double part = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), part);
    const bool possible = part > 0 && part <= 1;  // a NaN is not
    if (error != std::errc() || end != number.data() + number.size() || !possible)
        return fail(ErrorKind::usage,
                    fmt::format("--pages {}: PART is the part of the pages that comes at attach, "
                                "above 0 and up to 1, as in profile:0.1",
                                text));
    return AttachPages{fmt::format("-{}", part), part, true};
}

Result<Json> bench_attach(const Context& context, const AttachRequest& request) {
    Json report{{"schema", 1},
                {"generated", iso_time(unix_time())},
                {"command", request.command},
                {"unit", request.instructions ? "instructions" : "ns"},
                {"environment", describe_environment(context)},
                {"runs", Json::array()},
                {"skipped", Json::object()}};
    for (const uint64_t bytes : request.sizes) TRY(measure_size(context, request, bytes, report));
    context.progress->clear();
    if (report["skipped"].empty()) report.erase("skipped");
    return report;
}

}  // namespace memplate::bench
