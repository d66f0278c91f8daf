// SPDX-License-Identifier: Apache-2.0
//
// A trace for Prometheus: the metrics of each tick, served over HTTP.
#pragma once

#include <memory>
#include <string>

#include "trace/session.h"

namespace memplate::trace {

struct ExporterOptions {
    std::string listen{};  ///< "127.0.0.1:9750"; port 0: any
    std::string version{};
    /// More containers or images than that are left out, and counted.
    size_t most_series = 500;
    size_t most_images = 50;
};

class Exporter : public View {
  public:
    static Result<std::unique_ptr<Exporter>> listen(const ExporterOptions& options);
    ~Exporter() override;
    [[nodiscard]] int port() const;

    Result<> begin(const std::vector<ProbeMethod>& methods) override;
    Result<> phase(const Life& life, const Phase& phase) override;
    Result<> level(const Life&) override { return {}; }
    Result<> tick(const Snapshot& snapshot) override;
    Result<> finish(const Snapshot& snapshot) override { return tick(snapshot); }

  private:
    struct Server;
    explicit Exporter(const ExporterOptions& options);
    std::unique_ptr<Server> server_;
};

}  // namespace memplate::trace
