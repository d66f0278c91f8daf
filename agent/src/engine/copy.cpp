// SPDX-License-Identifier: Apache-2.0
//
// Engine copy (and the images of lazy): CRIU's own way, all memory in pagemap and pages images.
#include "engine/image_writer.h"

namespace memplate::engine {

Result<> write_copy_memory(int directory, const Template& tmpl) {
    uint32_t pages_id = first_free_pages_id(tmpl.manifest);
    for (const auto& process : tmpl.manifest.processes()) {
        TRY(write_pages(directory, tmpl, process, pages_id++, to_intervals(process.present())));
    }
    return {};
}

}  // namespace memplate::engine
