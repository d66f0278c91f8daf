// SPDX-License-Identifier: Apache-2.0
#include "trace/metrics.h"

#include <algorithm>
#include <cmath>

#include "trace/device.h"

namespace memplate::trace {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// Bounds of the start histograms: powers of two from 1 ms to 65.5 s.
constexpr int first_bound = 0;
constexpr int last_bound = 16;

MetricFamily family(const char* name, const char* help, MetricType type) {
    return {std::string("memplate_") + name, help, type, {}};
}

void add_gauge(MetricFamily& family, const Labels& labels, double value) {
    ClientMetric metric;
    metric.label = labels;
    metric.gauge.value = value;
    family.metric.push_back(std::move(metric));
}

void add_counter(MetricFamily& family, const Labels& labels, double value) {
    ClientMetric metric;
    metric.label = labels;
    metric.counter.value = value;
    family.metric.push_back(std::move(metric));
}

void add_histogram(MetricFamily& family, const Labels& labels, const Histogram& milliseconds) {
    ClientMetric metric;
    metric.label = labels;
    metric.histogram.sample_count = milliseconds.count();
    metric.histogram.sample_sum = milliseconds.sum() / 1000;
    for (int exponent = first_bound; exponent <= last_bound; exponent++)
        metric.histogram.bucket.push_back(
            {milliseconds.below(exponent), std::ldexp(1.0, exponent) / 1000});
    metric.histogram.bucket.push_back({milliseconds.count(), INFINITY});
    family.metric.push_back(std::move(metric));
}

Labels labels_of(const Life& life) {
    const Container& container = life.member->container;
    return {{"container", life.member->name()},
            {"engine", container.engine},
            {"image", container.image},
            {"cgroup", container.cgroup}};
}

}  // namespace

void Metrics::phase(const Life& life, const Phase& phase) {
    if (phase.name == "made" || phase.name == "ended") return;
    std::string image = life.member->container.image;
    if (!images_.contains(image)) {
        if (images_.size() < limits_.images)
            images_.insert(image);
        else
            image = "other";
    }
    starts_[{life.member->container.engine, image, phase.name}].add(life.milliseconds(phase));
}

std::vector<MetricFamily> Metrics::collect(const Snapshot& snapshot) const {
    auto lives = snapshot.lives;
    std::ranges::stable_sort(lives, std::greater(),
                             [](const auto& life) { return life->memory.bytes; });
    const size_t kept = std::min(lives.size(), limits_.containers);
    const size_t left_out = lives.size() - kept;
    lives.resize(kept);

    auto starts = family("start_seconds",
                         "Time from the birth of a container's cgroup to a phase of its start.",
                         MetricType::Histogram);
    for (const auto& [key, histogram] : starts_) {
        const auto& [engine, image, phase] = key;
        add_histogram(starts, {{"engine", engine}, {"image", image}, {"phase", phase}}, histogram);
    }
    auto memory =
        family("container_memory_bytes",
               "Memory charged to the container, page cache and kernel too.", MetricType::Gauge);
    auto peak =
        family("container_memory_peak_bytes", "The kernel's watermark of that.", MetricType::Gauge);
    auto since_exec =
        family("container_memory_peak_since_exec_bytes",
               "Peak since the entrypoint was executed, or the restored process resumed.",
               MetricType::Gauge);
    auto inactive =
        family("container_memory_inactive_file_bytes",
               "Page cache that the kernel would drop first; docker stats shows memory without it.",
               MetricType::Gauge);
    std::set<Labels> unique;  // a series twice would make the scrape fail
    for (const auto& life : lives) {
        const Labels labels = labels_of(*life);
        if (!unique.insert(labels).second) continue;
        add_gauge(memory, labels, static_cast<double>(life->memory.bytes));
        add_gauge(peak, labels, static_cast<double>(life->memory.peak));
        add_gauge(inactive, labels, static_cast<double>(life->memory.inactive_file));
        if (const auto since = life->peak_since_entry())
            add_gauge(since_exec, labels, static_cast<double>(since->bytes));
    }
    auto faults =
        family("container_page_faults_total",
               "Page faults by kind (minor, major, cow), backing and device.", MetricType::Counter);
    std::map<Labels, double> sums;
    for (const LifeFaults& row : snapshot.faults) {
        if (std::ranges::find(lives, row.life) == lives.end()) continue;
        Labels labels = labels_of(*row.life);
        labels.push_back({"kind", std::string(name_of(row.count.kind))});
        labels.push_back({"backing", std::string(name_of(row.count.backing))});
        labels.push_back({"device", device_name(row.count)});
        sums[labels] += static_cast<double>(row.count.count);
    }
    for (const auto& [labels, count] : sums) add_counter(faults, labels, count);
    auto containers = family("containers", "Containers that are traced.", MetricType::Gauge);
    add_gauge(containers, {}, static_cast<double>(kept + left_out));
    auto omitted = family("containers_omitted",
                          "Containers without series of their own: those with the least memory, "
                          "beyond the limit.",
                          MetricType::Gauge);
    add_gauge(omitted, {}, static_cast<double>(left_out));
    auto lost =
        family("lost_events_total", "Events that found no room; above 0, starts may be missing.",
               MetricType::Counter);
    add_counter(lost, {}, static_cast<double>(snapshot.lost));
    auto methods = family("method_info", "How something is measured here.", MetricType::Gauge);
    for (const ProbeMethod& method : methods_)
        add_gauge(methods, {{"what", method.what}, {"backend", method.backend}}, 1);
    auto build = family("build_info", "The program that serves this.", MetricType::Gauge);
    add_gauge(build, {{"version", version_}}, 1);

    std::vector<MetricFamily> all;
    for (MetricFamily* one : {&starts, &memory, &peak, &since_exec, &inactive, &faults, &containers,
                              &omitted, &lost, &methods, &build})
        if (!one->metric.empty()) all.push_back(std::move(*one));
    return all;
}

}  // namespace memplate::trace
