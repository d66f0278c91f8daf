// SPDX-License-Identifier: Apache-2.0
//
// What `memplate pool` prints: pool list, show and verify, and the JSON of a pool.
#pragma once

#include "cli/application.h"
#include "pool/pool.h"

namespace memplate::cli {

struct PoolOptions {
    std::string path;
    std::string size;
    std::vector<std::string> paths;
    std::string device;  ///< --dax
    std::string host;    ///< --host
    bool dedup = false;
    bool force = false;
    bool no_other_hosts = false;
};

[[nodiscard]] Json pool_info_json(const pool::PoolInfo& info);
/// {"schema": 1, …the members of `more`}
[[nodiscard]] Json pool_document(const Json& more);

[[nodiscard]] Result<int> list_pools(const Application& application, const PoolOptions& options);
[[nodiscard]] Result<int> show_pool(const Application& application, const PoolOptions& options);
[[nodiscard]] Result<int> verify_pool(const Application& application, const PoolOptions& options);

}  // namespace memplate::cli
