// SPDX-License-Identifier: Apache-2.0
//
// From a CRIU image directory to a template: pages and images into a page store, and the manifest
// that says where everything is.
#pragma once

#include <functional>

#include "template/layout.h"
#include "template/page_store.h"

namespace memplate {

struct StoreProgress {
    std::function<void(uint64_t total_pages)> begin;
    std::function<void(uint64_t pages)> advance;
};

/// Fills `processes` and `images` of the manifest. `images_dir`: the directory `set` came from.
[[nodiscard]] Result<> store_images(int images_dir, const criu::ImageSet& set,
                                    const LayoutOptions& options, PageStore& store,
                                    proto::Manifest& manifest, const StoreProgress& progress = {});

}  // namespace memplate
