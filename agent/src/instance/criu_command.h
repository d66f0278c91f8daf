// SPDX-License-Identifier: Apache-2.0
//
// `memplate criu -- ARGS`: the criu command line with restores going through an engine, so that
// existing tools and CRIU's own tests can be pointed at Memplate.
#pragma once

#include <string>
#include <vector>

#include "util/context.h"

namespace memplate::instance {

/// Options of a criu command line that matter to us.
struct CriuCommandLine {
    bool restore = false;
    std::string images_directory = ".";
    size_t images_option = 0;      ///< index of the word that holds the directory; 0: none
    bool images_attached = false;  ///< the word is "--images-dir=DIR" or "-DDIR"
    bool work_directory = false;
};
[[nodiscard]] CriuCommandLine read_command_line(const std::vector<std::string>& arguments);

/// Becomes criu (does not return when it succeeds). `engine`: auto, copy or mapped; for a restore
/// with mapped, the images are converted first, into a directory that is removed when criu ends.
[[nodiscard]] Result<> exec_criu(const Context& context, std::vector<std::string> arguments,
                                 const std::string& engine);

}  // namespace memplate::instance
