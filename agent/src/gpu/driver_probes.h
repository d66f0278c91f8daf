// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/libbpf.h>

#include <string>
#include <vector>

#include "util/fd.h"

namespace memplate::gpu {

/// Uprobes at many places of a file at once (Linux 6.6 and newer), removed when the object goes.
/// One at a time, as older kernels have it, takes them 0.1 s each to remove.
class DriverProbes {
  public:
    struct Place {
        uint64_t offset = 0;  ///< in the file
        uint64_t cookie = 0;  ///< for the program
    };
    /// To be called before the program is loaded.
    static void prepare(bpf_program* program);
    /// ErrorKind::unsupported if this kernel cannot.
    static Result<> check(const bpf_program* program);

    /// Runs `program` when any process enters these functions, or returns from them.
    Result<> set(const bpf_program* program, bool at_return, const std::string& path,
                 const std::vector<Place>& places);

  private:
    std::vector<UniqueFd> links_;
};

}  // namespace memplate::gpu
