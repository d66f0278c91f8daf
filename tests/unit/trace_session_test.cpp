// SPDX-License-Identifier: Apache-2.0
//
// Whole traces over probes that tell what a test wants.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include "trace/exporter.h"
#include "trace/metrics.h"
#include "trace/session.h"
#include "trace_fixture.h"
#include "util/http.h"

namespace memplate::trace {
namespace {

using enum EventKind;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// One script a drain; then it asks the trace to stop.
struct Script {
    std::vector<std::vector<Event>> drains;
    std::vector<MemoryLevel> levels;
    std::vector<FaultCount> faults;
    uint64_t lost = 0;
    std::stop_source stop;
};

class ScriptedProbes : public Probes {
  public:
    explicit ScriptedProbes(Script& script) : script_(script) {}
    Result<> drain(const std::function<void(const Event&)>& sink) override {
        if (next_ == script_.drains.size()) {
            script_.stop.request_stop();
            return {};
        }
        for (const Event& one : script_.drains[next_++]) sink(one);
        return {};
    }
    [[nodiscard]] uint64_t lost() const override { return script_.lost; }
    [[nodiscard]] const std::vector<ProbeMethod>& methods() const override { return methods_; }
    Result<std::vector<MemoryLevel>> sweep() override { return script_.levels; }
    Result<std::vector<FaultCount>> faults() override { return script_.faults; }

  private:
    Script& script_;
    size_t next_ = 0;
    std::vector<ProbeMethod> methods_ = {{"start", "script", "as written"}};
};

class Notes : public View {
  public:
    Result<> begin(const std::vector<ProbeMethod>& methods) override {
        EXPECT_EQ(methods.size(), 1U);
        return {};
    }
    Result<> phase(const Life& life, const Phase& phase) override {
        phases.push_back(life.member->name() + " " + phase.name);
        return {};
    }
    Result<> level(const Life& life) override {
        levels.push_back(life.member->name());
        return {};
    }
    Result<> tick(const Snapshot&) override { return {}; }
    Result<> finish(const Snapshot& snapshot) override {
        last = snapshot;
        return {};
    }
    std::vector<std::string> phases;
    std::vector<std::string> levels;
    Snapshot last;
};

class TraceSession : public TraceTree {
  protected:
    Notes run(SessionOptions options, uint64_t only = 0) {
        options.interval = std::chrono::milliseconds(30);
        Session session(std::make_unique<ScriptedProbes>(script_), hierarchy(),
                        {.hierarchy = hierarchy(),
                         .instances = root() + "/instances",
                         .commands = !options.filter.commands.empty(),
                         .root = root()},
                        options, only);
        Notes notes;
        const auto end = session.run(notes, script_.stop.get_token());
        EXPECT_TRUE(end) << end.error().message;
        if (end) end_ = *end;
        return notes;
    }
    void docker_state() const {
        write("var/lib/docker/containers/" + docker_id + "/config.v2.json",
              R"({"Name":"/web","Config":{"Image":"alpine:3.20"}})");
    }
    Script script_;
    SessionEnd end_{};
    const std::string path_ = "/docker/" + docker_id;
};

TEST_F(TraceSession, PhasesAreToldUnderTheNamesOfTheEngine) {
    docker_state();
    const uint64_t id = group(path_);
    script_.drains = {runc_start(id, path_), {}, {}, {}, {}, {}, {}};
    const Notes notes = run({});
    EXPECT_EQ(notes.phases.size(), 7U);
    for (const std::string& one : notes.phases) EXPECT_THAT(one, HasSubstr("web "));
    ASSERT_EQ(notes.last.lives.size(), 1U);
    EXPECT_EQ(notes.last.lives[0]->member->group(), "alpine:3.20");
    EXPECT_EQ(end_, SessionEnd::stopped);
}

TEST_F(TraceSession, OnlyWhatTheFilterLetsPassIsTold) {
    docker_state();
    const uint64_t id = group(path_);
    const uint64_t other = group("/job");
    std::vector<Event> both = runc_start(id, path_);
    for (const Event& one : crun_start(other, "/job")) both.push_back(one);
    both.pop_back();  // /job stays
    script_.levels = {{id, 1000, 2000, 0}, {other, 1000, 2000, 0}};
    const auto told = [&](const Filter& filter) {
        script_.stop = std::stop_source();
        script_.drains = {both, {}, {}, {}, {}};
        const Notes notes = run({.filter = filter});
        EXPECT_EQ(notes.levels.empty(), notes.last.lives.empty());
        return notes.phases.size();
    };
    EXPECT_EQ(told({}), 11U);
    EXPECT_EQ(told({.names = {"web"}}), 7U);
    EXPECT_EQ(told({.images = {"alpine"}}), 7U);
    EXPECT_EQ(told({.commands = {"sh"}}), 4U);
    EXPECT_EQ(told({.cgroups = {"/job"}}), 4U);
    EXPECT_EQ(told({.names = {"nosuch"}}), 0U);
}

TEST_F(TraceSession, ContainersOfBeforeShowMemoryAndNoStart) {
    const uint64_t id = group(path_, "17\n");
    const uint64_t inner = group(path_ + "/init.scope", "17\n");
    const uint64_t idle = group("/docker");
    script_.levels = {{idle, 9000, 9000, 0}, {id, 1000, 2000, 100}, {inner, 500, 600, 0}};
    script_.drains = {{event(forked, inner, 1, {.pid = 5})}, {}, {}, {}};
    const Notes notes = run({.memory = true});
    EXPECT_THAT(notes.phases, IsEmpty());
    ASSERT_EQ(notes.last.lives.size(), 1U);  // /docker itself holds no process
    EXPECT_EQ(notes.last.lives[0]->memory.bytes, 1000U);
    EXPECT_EQ(notes.last.lives[0]->memory.peak, 2000U);
}

TEST_F(TraceSession, ARemovalThatNobodyToldOfIsSeen) {
    const uint64_t id = group(path_);
    auto events = runc_start(id, path_);
    script_.drains = {events, {}, {}, {}, {}, {}};
    remove(path_);  // its `gone` was lost
    const Notes notes = run({.keep_ended = std::chrono::hours(10000)});
    EXPECT_THAT(notes.phases, Contains(HasSubstr(" ended")));
}

TEST_F(TraceSession, ACgroupOfItsOwnEndsTheTrace) {
    const uint64_t id = group("/job", "17\n");
    script_.drains = {{}, {event(cgroup_gone, id, 50)}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
    (void)run({.filter = {.cgroups = {"/job"}}}, id);
    EXPECT_EQ(end_, SessionEnd::cgroup_gone);
    EXPECT_FALSE(script_.stop.stop_requested());
}

TEST_F(TraceSession, FaultsOfNestedCgroupsAreTheContainers) {
    const uint64_t id = group(path_, "17\n");
    const uint64_t inner = group(path_ + "/init.scope", "17\n");
    script_.levels = {{id, 1000, 2000, 100}};
    FaultCount count{.cgroup = id,
                     .device = 0,
                     .backing = FaultCount::Backing::anonymous,
                     .kind = FaultCount::Kind::minor,
                     .write = true,
                     .count = 10};
    FaultCount below = count;
    below.cgroup = inner;
    FaultCount stranger = count;
    stranger.cgroup = 99999999;
    script_.faults = {count, below, stranger};
    script_.drains = {{}, {}, {}};
    const Notes notes = run({.faults = true});
    ASSERT_EQ(notes.last.faults.size(), 1U);
    EXPECT_EQ(notes.last.faults[0].count.count, 20U);
}

TEST_F(TraceSession, LostEventsAreTold) {
    script_.lost = 42;
    script_.drains = {{}};
    EXPECT_EQ(run({}).last.lost, 42U);
}

// ---- what Prometheus is served

std::shared_ptr<Life> a_life(uint64_t id, const std::string& name, const std::string& image) {
    auto life = std::make_shared<Life>();
    life->member = std::make_shared<Member>();
    life->member->cgroup = id;
    life->member->container = {"docker", "", name, "/docker/" + name, image};
    life->born_ns = 1;
    life->begun = true;
    life->memory = {1, id * 1000, id * 2000, 10};
    return life;
}

const prometheus::MetricFamily* family(const std::vector<prometheus::MetricFamily>& all,
                                       const std::string& name) {
    const auto found = std::ranges::find(all, "memplate_" + name, &prometheus::MetricFamily::name);
    return found == all.end() ? nullptr : &*found;
}

TEST(TraceMetrics, LabelsAreBounded) {
    Metrics metrics("1.2.3", {.containers = 5, .images = 3});
    metrics.begin({{"start", "tracepoints", "exact"}});
    Snapshot snapshot;
    for (uint64_t i = 1; i <= 20; i++) {
        snapshot.lives.push_back(a_life(i, fmt::format("c{}", i), fmt::format("image-{}", i)));
        metrics.phase(*snapshot.lives.back(), {"exec", 3'000'001, ""});
    }
    const auto all = metrics.collect(snapshot);
    const auto* starts = family(all, "start_seconds");
    ASSERT_TRUE(starts);
    EXPECT_EQ(starts->metric.size(), 4U);  // three images and the others
    const auto* memory = family(all, "container_memory_bytes");
    ASSERT_TRUE(memory);
    ASSERT_EQ(memory->metric.size(), 5U);
    EXPECT_EQ(memory->metric[0].gauge.value, 20'000);  // the largest stay
    EXPECT_EQ(family(all, "containers")->metric[0].gauge.value, 20);
    EXPECT_EQ(family(all, "containers_omitted")->metric[0].gauge.value, 15);
    EXPECT_FALSE(family(all, "container_page_faults_total"));
    for (const auto& one : all) EXPECT_FALSE(one.help.empty()) << one.name;
}

TEST(TraceMetrics, HistogramsAreCumulativeSeconds) {
    Metrics metrics("1", {});
    const auto life = a_life(1, "web", "alpine");
    for (const int64_t ms : {3, 3, 100, 200'000})
        metrics.phase(*life, {"exec", ms * 1'000'000, ""});
    const auto all = metrics.collect({});
    const auto& histogram = family(all, "start_seconds")->metric.at(0).histogram;
    EXPECT_EQ(histogram.sample_count, 4U);
    EXPECT_NEAR(histogram.sample_sum, 200.106, 0.001);
    uint64_t before = 0;
    for (const auto& bucket : histogram.bucket) {
        EXPECT_GE(bucket.cumulative_count, before);
        before = bucket.cumulative_count;
        if (bucket.upper_bound == 0.004) {
            EXPECT_EQ(bucket.cumulative_count, 2U);
        }
    }
    EXPECT_EQ(before, 4U);
}

TEST(TraceExporter, IsScrapedAndEndedContainersLeave) {
    const auto exporter = Exporter::listen({.listen = "127.0.0.1:0", .version = "1.2.3"});
    ASSERT_TRUE(exporter) << exporter.error().message;
    const auto scrape = [&] {
        const auto answer = http_request("127.0.0.1", static_cast<uint16_t>((*exporter)->port()),
                                         {.path = "/metrics"}, std::chrono::seconds(10));
        EXPECT_TRUE(answer) << answer.error().message;
        return answer ? answer->body : std::string();
    };
    ASSERT_TRUE((*exporter)->begin({{"start", "tracepoints", "exact"}}));
    const auto life = a_life(7, "web \"quoted\"", "alpine");
    ASSERT_TRUE((*exporter)->phase(*life, {"exec", 3'000'001, ""}));
    Snapshot snapshot;
    snapshot.lives = {life, life};  // twice: one series all the same
    snapshot.lost = 3;
    ASSERT_TRUE((*exporter)->tick(snapshot));
    const std::string text = scrape();
    EXPECT_THAT(text, HasSubstr("memplate_container_memory_bytes{container=\"web \\\"quoted\\\"\","
                                "engine=\"docker\",image=\"alpine\""));
    EXPECT_THAT(text, HasSubstr("# HELP memplate_start_seconds "));
    EXPECT_THAT(text, HasSubstr("# TYPE memplate_start_seconds histogram"));
    EXPECT_THAT(text, HasSubstr("le=\"+Inf\"} 1"));
    EXPECT_THAT(text, HasSubstr("memplate_lost_events_total 3"));
    EXPECT_THAT(text, HasSubstr("memplate_build_info{version=\"1.2.3\"} 1"));
    EXPECT_EQ(text.find("container_memory_bytes{"), text.rfind("container_memory_bytes{"));
    ASSERT_TRUE((*exporter)->tick({}));
    EXPECT_THAT(scrape(), Not(HasSubstr("container_memory_bytes{")));
    EXPECT_THAT(scrape(), HasSubstr("memplate_start_seconds_count"));  // starts stay

    const std::string taken = fmt::format("127.0.0.1:{}", (*exporter)->port());
    const auto second = Exporter::listen({.listen = taken, .version = "1"});
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message, HasSubstr(taken));
    EXPECT_THAT(second.error().message, Not(HasSubstr("\n")));
    for (const char* wrong : {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
                              "127.0.0.1:0,127.0.0.1:0"})
        EXPECT_EQ(Exporter::listen({.listen = wrong, .version = "1"}).error().kind,
                  ErrorKind::usage)
            << wrong;
}

}  // namespace
}  // namespace memplate::trace
