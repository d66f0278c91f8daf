// SPDX-License-Identifier: Apache-2.0
#include "trace/resolver.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "util/container_state.h"
#include "util/fs.h"
#include "util/text.h"

namespace memplate::trace {
namespace {

using std::chrono::milliseconds;

constexpr std::array attempts_after = {milliseconds(0), milliseconds(100), milliseconds(400),
                                       milliseconds(1500), milliseconds(8000)};
/// A cgroup of no engine is one of runc or crun soon, or never.
constexpr size_t attempts_of_plain = 3;

bool complete(const Container& container) {
    const std::string& engine = container.engine;
    if (engine == "runc" || engine == "crun") return !container.name.empty();
    if (engine == "memplate") return !container.image.empty();
    return !container.name.empty() && !container.image.empty();
}

/// The file that the first process of a cgroup executes.
std::string first_command(const std::string& directory) {
    const auto text = read_file(directory + "/cgroup.procs");
    if (!text) return "";
    for (const std::string& line : split(*text, '\n')) {
        std::array<char, 4096> path;
        const ssize_t size =
            ::readlink(fmt::format("/proc/{}/exe", line).c_str(), path.data(), path.size());
        if (size > 0) return {path.data(), static_cast<size_t>(size)};
    }
    return "";
}

}  // namespace

Resolver::Resolver(Options options)
    : options_(std::move(options)), thread_([this](const std::stop_token& stop) { work(stop); }) {}

Resolver::~Resolver() = default;

void Resolver::ask(const std::shared_ptr<Member>& member) {
    if (member->container.engine == "systemd" && !options_.commands) {
        member->resolved = true;
        return;
    }
    const std::scoped_lock lock(mutex_);
    questions_.push_back({member, member->container, "", member->occupied, 0, Clock::now()});
    wake_.notify_all();
}

bool Resolver::look(Question& question) const {
    if (options_.commands && question.occupied && question.command.empty())
        question.command = first_command(options_.hierarchy.root + question.container.cgroup);
    Container& container = question.container;
    if (container.engine == "systemd") return true;
    const bool plain = container.engine == "cgroup";
    describe_container(container, options_.instances, options_.root);
    const size_t attempts = plain ? attempts_of_plain : attempts_after.size();
    return complete(container) || question.attempts >= attempts;
}

void Resolver::work(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (!stop.stop_requested()) {
        const auto next = std::ranges::min_element(questions_, {}, &Question::due);
        if (next == questions_.end()) {
            wake_.wait(lock, stop, [&] { return !questions_.empty(); });
            continue;
        }
        if (next->due > Clock::now()) {
            const auto due = next->due;
            const size_t count = questions_.size();
            wake_.wait_until(lock, stop, due, [&] { return questions_.size() != count; });
            continue;
        }
        Question question = std::move(*next);
        questions_.erase(next);
        lock.unlock();
        question.attempts++;
        const bool last = look(question);
        lock.lock();
        answers_.emplace_back(question, last);
        if (last) continue;
        question.due = Clock::now() + attempts_after.at(question.attempts);
        questions_.push_back(std::move(question));
    }
}

void Resolver::answer() {
    std::vector<std::pair<Question, bool>> answers;
    {
        const std::scoped_lock lock(mutex_);
        answers.swap(answers_);
    }
    for (auto& [question, last] : answers) {
        const auto member = question.member.lock();
        if (!member) continue;
        if (question.container.engine != "cgroup") member->container = question.container;
        if (!question.command.empty()) member->command = question.command;
        member->resolved = last;
    }
}

}  // namespace memplate::trace
