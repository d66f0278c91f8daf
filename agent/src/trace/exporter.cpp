// SPDX-License-Identifier: Apache-2.0
#include "trace/exporter.h"

#include <netinet/in.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <exception>
#include <mutex>

#include "trace/metrics.h"
#include "util/text.h"

namespace memplate::trace {
namespace {

/// What was true at the last tick, for whoever asks next.
class Latest : public prometheus::Collectable {
  public:
    void set(std::vector<prometheus::MetricFamily> families) {
        const std::scoped_lock lock(mutex_);
        families_ = std::move(families);
    }
    [[nodiscard]] std::vector<prometheus::MetricFamily> Collect() const override {
        const std::scoped_lock lock(mutex_);
        return families_;
    }

  private:
    mutable std::mutex mutex_;
    std::vector<prometheus::MetricFamily> families_;
};

}  // namespace

struct Exporter::Server {
    explicit Server(const ExporterOptions& options)
        : metrics(options.version,
                  {.containers = options.most_series, .images = options.most_images}) {}
    Metrics metrics;
    std::shared_ptr<Latest> latest = std::make_shared<Latest>();
    std::unique_ptr<prometheus::Exposer> exposer;  ///< last: its threads end first
};

Exporter::Exporter(const ExporterOptions& options) : server_(std::make_unique<Server>(options)) {}

Exporter::~Exporter() = default;

Result<std::unique_ptr<Exporter>> Exporter::listen(const ExporterOptions& options) {
    std::unique_ptr<Exporter> exporter(new Exporter(options));
    // "HOST:PORT"; the library would take other forms too, some of them for other things.
    const size_t colon = options.listen.rfind(':');
    const auto port = parse_unsigned(
        colon == std::string::npos ? "" : std::string_view(options.listen).substr(colon + 1));
    if (!port || *port > 65535 || options.listen.find(',') != std::string::npos)
        return fail(ErrorKind::usage,
                    fmt::format("--listen {}: not ADDRESS:PORT; write one as in 127.0.0.1:9750",
                                options.listen));
    try {
        exporter->server_->exposer =
            std::make_unique<prometheus::Exposer>(options.listen, /*num_threads=*/2);
    } catch (const std::exception&) {  // its message does not tell more
        return fail(
            fmt::format("--listen {}: cannot listen there; the port may be in use, choose "
                        "another one",
                        options.listen));
    }
    exporter->server_->exposer->RegisterCollectable(exporter->server_->latest);
    return exporter;
}

int Exporter::port() const {
    const auto ports = server_->exposer->GetListeningPorts();
    return ports.empty() ? 0 : ports.front();
}

Result<> Exporter::begin(const std::vector<ProbeMethod>& methods) {
    server_->metrics.begin(methods);
    return {};
}

Result<> Exporter::phase(const Life& life, const Phase& phase) {
    server_->metrics.phase(life, phase);
    return {};
}

Result<> Exporter::tick(const Snapshot& snapshot) {
    server_->latest->set(server_->metrics.collect(snapshot));
    return {};
}

}  // namespace memplate::trace
