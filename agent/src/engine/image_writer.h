// SPDX-License-Identifier: Apache-2.0
//
// Writing image directories: what the engines have in common.
#pragma once

#include <string>

#include "engine/engine.h"
#include "template/intervals.h"

namespace memplate::engine {

/// Creates NAME in `directory` with these bytes.
[[nodiscard]] Result<> write_image(int directory, const std::string& name, std::string_view bytes);

/// Writes pagemap-PID.img and pages-N.img with the given pages of a process.
[[nodiscard]] Result<> write_pages(int directory, const Template& tmpl,
                                   const proto::ProcessPages& process, uint32_t pages_id,
                                   const Intervals& which);

/// First number for a pages image that no kept image uses.
[[nodiscard]] uint32_t first_free_pages_id(const proto::Manifest& manifest);

/// Capabilities of core-*.img cut down to the container default; other images unchanged.
[[nodiscard]] Result<std::string> restrict_capabilities(const std::string& name, std::string bytes);

/// files.img with the sizes of files in volatile directories removed (CRIU then does not insist on
/// them) and with `extra` entries appended.
[[nodiscard]] Result<std::string> rewrite_files(
    const std::string& bytes, const std::vector<std::string>& volatile_directories,
    const std::vector<criu::image::File>& extra);

/// One engine each; called by write_images for what is its own. Every kept image that is not
/// named here is copied by write_images.
[[nodiscard]] Result<> write_copy_memory(int directory, const Template& tmpl);
/// Writes mm-*.img and the pages left to CRIU; adds the entries that files.img needs.
[[nodiscard]] Result<> write_mapped_memory(int directory, const Template& tmpl,
                                           std::vector<criu::image::File>& extra_files);
/// The same, and the plan of what the module has to fill.
[[nodiscard]] Result<> write_attached_memory(int directory, const Template& tmpl, Lazy lazy,
                                             std::vector<criu::image::File>& extra_files);

}  // namespace memplate::engine
