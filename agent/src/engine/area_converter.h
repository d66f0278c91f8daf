// SPDX-License-Identifier: Apache-2.0
//
// Turning parts of private anonymous areas into private file mappings, in the images. The rules,
// each of which CRIU or the kernel enforces:
//   - one file id per process: CRIU takes equal id and addresses in parent and child for memory
//     shared by fork and would ignore the offset;
//   - a converted area is a regular private file mapping without MAP_ANONYMOUS and MAP_STACK;
//   - the entry of the file in files.img has neither size nor mode, so nothing is compared.
#pragma once

#include <string>
#include <vector>

#include "engine/engine.h"

namespace memplate::engine {

/// [start, end) of a process becomes a mapping of a file from byte `offset` on.
struct MappedArea {
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t offset = 0;
};

/// File ids of our mappings: the process's index is added.
inline constexpr uint32_t first_file_id = 0x7f000001;

/// The entry of files.img for a file that CRIU inherits under the name `key`.
[[nodiscard]] criu::image::File inherited_file(uint32_t id, const std::string& key);

/// mm-PID.img with `areas` (ascending) converted. An area that is not inside one of the memory
/// areas is an error.
[[nodiscard]] Result<std::string> convert_areas(const std::string& name, const std::string& bytes,
                                                const std::vector<MappedArea>& areas,
                                                uint32_t file_id);

}  // namespace memplate::engine
