// SPDX-License-Identifier: Apache-2.0
//
// Recordings read back: each line says all that is needed to make the container's life again.
#include <algorithm>

#include "trace/recording.h"
#include "util/fs.h"
#include "util/json.h"
#include "util/text.h"

namespace memplate::trace {
namespace {

/// nlohmann's exceptions for missing keys and wrong types are caught where a line is read.
class Player {
  public:
    Player(const Filter& filter, View& view) : filter_(filter), view_(view) {}

    Result<> line(const Json& line) {
        const std::string type = line.at("type");
        const Json& data = line.at("data");
        if (type == "attached_probes") return begin(data);
        if (type == "lost_events") lost_ = data.at("events");
        if (type == "phase") return phase(data);
        if (type == "level") return level(data);
        return {};  // maps and histograms of those who printed instead of recording
    }

    [[nodiscard]] bool begun() const { return begun_; }

    Result<> finish() {
        Snapshot snapshot;
        for (const auto& [key, life] : lives_)
            if (passes(*life)) snapshot.lives.push_back(life);
        snapshot.time_ns = last_ns_;
        snapshot.lost = lost_;
        return view_.finish(snapshot);
    }

  private:
    Result<> begin(const Json& data) {
        begun_ = true;
        std::vector<ProbeMethod> methods;
        for (const Json& one : data.at("methods"))
            methods.push_back({one.at("what"), one.at("backend"), one.at("accuracy")});
        return view_.begin(methods);
    }

    [[nodiscard]] bool passes(const Life& life) const {
        return filter_.matches(*life.member, life.command) == Filter::Answer::yes;
    }

    /// A cgroup that is used again has another birth.
    Life& life_of(const Json& json) {
        const uint64_t cgroup = json.at("cgroup_id");
        const int64_t born_ns = json.value("born_ns", int64_t{0});
        auto& life = lives_[{cgroup, born_ns}];
        if (!life) {
            life = std::make_shared<Life>();
            life->member = std::make_shared<Member>();
            life->member->cgroup = cgroup;
            life->member->occupied = true;
            life->member->resolved = true;
            life->born_ns = born_ns;
            life->begun = born_ns != 0;
        }
        Container& container = life->member->container;
        container.engine = json.at("engine");
        container.name = json.at("name");
        container.id = json.value("id", "");
        container.image = json.value("image", "");
        container.cgroup = json.at("cgroup");
        return *life;
    }

    static void read_memory(Life& life, const Json& data) {
        life.memory.bytes = data.value("bytes", life.memory.bytes);
        life.memory.peak = data.value("peak_bytes", life.memory.peak);
        life.memory.inactive_file = data.value("inactive_file_bytes", uint64_t{0});
        if (!data.contains("peak_since_exec_bytes")) return;
        life.largest_since_entry = data.at("peak_since_exec_bytes");
        // Exact: the watermark of the exec was below that of now.
        if (data.at("peak_since_exec_exact").get<bool>()) life.peak_at_entry = 0;
    }

    Result<> phase(const Json& data) {
        Life& life = life_of(data.at("container"));
        const Phase phase{data.at("phase"), data.at("time_ns"), data.at("detail")};
        last_ns_ = std::max(last_ns_, phase.time_ns);
        life.phases.push_back(phase);
        if (phase.name == "exec") life.command = phase.detail;
        if (phase.name == "exec" || phase.name == "resume") life.entered_ns = phase.time_ns;
        if (phase.name == "ended") {
            life.ended_ns = phase.time_ns;
            read_memory(life, data);
        }
        return passes(life) ? view_.phase(life, phase) : Result<>();
    }

    Result<> level(const Json& data) {
        Life& life = life_of(data.at("container"));
        life.memory.time_ns = data.at("time_ns");
        last_ns_ = std::max(last_ns_, life.memory.time_ns);
        read_memory(life, data);
        return passes(life) ? view_.level(life) : Result<>();
    }

    const Filter& filter_;
    View& view_;
    std::map<std::pair<uint64_t, int64_t>, std::shared_ptr<Life>> lives_;
    int64_t last_ns_ = 0;
    uint64_t lost_ = 0;
    bool begun_ = false;
};

}  // namespace

Result<> replay(const std::string& path, const Filter& filter, View& view) {
    constexpr size_t largest = size_t{4} << 30;
    TRY_ASSIGN(const std::string text, read_file(path, largest));
    Player player(filter, view);
    size_t number = 0;
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = text.find('\n', begin);
        if (end == text.npos) break;  // cut off
        number++;
        const auto wrong = [&](std::string_view why) {
            return fail(
                fmt::format("{}, line {}: {}; give a file that --record wrote", path, number, why));
        };
        const Json line = Json::parse(text.substr(begin, end - begin), nullptr, false);
        begin = end + 1;
        if (!line.is_object()) return wrong("not a JSON object");
        if (number == 1 && line.value("type", "") != "attached_probes")
            return wrong("not the beginning of a recording");
        try {
            TRY(player.line(line));
        } catch (const Json::exception& error) {
            return wrong(error.what());
        }
    }
    if (!player.begun())
        return fail(fmt::format("{}: empty; give a file that --record wrote", path));
    return player.finish();
}

}  // namespace memplate::trace
