// SPDX-License-Identifier: Apache-2.0
//
// A traced program's time, put together: what every moment was spent on, the calls of the driver,
// and what happened between them. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "gpu/driver_calls.h"
#include "gpu/program_trace.h"

namespace memplate::gpu {

/// What a moment is spent on. Where several processes or threads do different things, the first of
/// these counts.
enum class Activity : uint8_t {
    held,    ///< memplate held the program to set probes
    driver,  ///< in a call of the driver
    disk,    ///< waiting for a disk, or reading a file that is no code
    start,   ///< from the fork to the program's exec
    link,    ///< exec and the dynamic linker, before main()
    import,  ///< code being opened, read, mapped, and what follows until the next such file
    user,    ///< the program's own code
};

/// A piece of the time line; the next begins where it ends.
struct Segment {
    int64_t begin_ns = 0;
    int64_t end_ns = 0;
    Activity activity = Activity::user;
    uint32_t call = 0;  ///< of the driver: index of its name in the texts

    [[nodiscard]] int64_t ns() const { return end_ns - begin_ns; }
};

/// All calls of one name.
struct CallTotals {
    uint64_t count = 0;
    uint64_t failed = 0;      ///< returned an error other than "not ready"
    uint64_t unfinished = 0;  ///< had not returned when the program ended
    int64_t total_ns = 0;
    int64_t first_ns = 0;
    int64_t longest_ns = 0;
    uint64_t bytes = 0;
    int first_error = 0;
};

/// The time between two calls of the driver, before the first, or after the last.
struct Gap {
    int64_t begin_ns = 0;
    int64_t end_ns = 0;
    uint32_t after = 0;   ///< call before it; 0: none
    uint32_t before = 0;  ///< call after it; 0: none
    std::map<Activity, int64_t> parts;
    uint64_t files = 0;  ///< opened
    uint64_t code_files = 0;
    uint64_t bytes_read = 0;
    uint32_t largest = 0;  ///< the file of which most was read; 0: none

    [[nodiscard]] int64_t ns() const { return end_ns - begin_ns; }
};

/// What the StreamBox experiments time; nothing where the program does no such thing.
struct StreamboxLabels {
    std::optional<int64_t> context_ns;  ///< first context: until the driver is synchronised, or
                                        ///< memory is taken
    std::optional<int64_t> tensor_ns;   ///< first device memory until the next synchronisation
    std::optional<int64_t> model_ns;    ///< memory taken or copied to after that: until the last
                                        ///< copy before a kernel is launched, and the
                                        ///< synchronisation after it
};

struct Timeline {
    std::vector<Segment> segments;  ///< from the beginning to the end, without holes
    std::map<Activity, int64_t> activities;
    std::map<CallPurpose, int64_t> purposes;  ///< of the time in the driver
    std::map<std::string, CallTotals, std::less<>> calls;
    std::vector<Gap> gaps;  ///< in the order of time; those that take a ten-thousandth or more
    /// Name → ns from the beginning.
    std::vector<std::pair<std::string, int64_t>> milestones;
    StreamboxLabels labels;
    uint64_t kernels = 0;           ///< different ones launched
    int64_t first_launches_ns = 0;  ///< the first launch of each
    uint64_t later_launches = 0;
    int64_t later_launches_ns = 0;
    uint64_t copied_bytes = 0;  ///< to the device, by calls that return when it is done or queued
    int64_t copied_ns = 0;
    std::set<pid_t> processes;  ///< that called the driver
};

[[nodiscard]] Timeline make_timeline(const ProgramTrace& trace);

/// "/usr/lib/python3/os.py", "libfoo.so.1": files whose reading is part of importing.
[[nodiscard]] bool is_code(std::string_view path);
[[nodiscard]] bool is_library(std::string_view path);

[[nodiscard]] std::string_view name_of(Activity activity);
[[nodiscard]] std::string_view name_of(CallPurpose purpose);

}  // namespace memplate::gpu
