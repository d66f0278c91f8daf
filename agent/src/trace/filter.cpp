// SPDX-License-Identifier: Apache-2.0
#include "trace/filter.h"

#include <fmt/ranges.h>
#include <fnmatch.h>

#include <algorithm>

namespace memplate::trace {
namespace {

using Answer = Filter::Answer;

bool fits(const std::string& pattern, const std::string& text) {
    return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

std::string after_last_slash(const std::string& text) {
    return text.substr(text.rfind('/') + 1);
}

bool name_fits(const std::string& pattern, const Member& member) {
    const Container& container = member.container;
    // A cgroup of its own is named by its path.
    return fits(pattern, member.name()) || fits(pattern, after_last_slash(member.name())) ||
           fits(pattern, container.id) ||
           (pattern.size() >= 4 && container.id.starts_with(pattern));
}

bool cgroup_fits(const std::string& given, const std::string& path) {
    std::string pattern = fmt::format("{}{}", given.starts_with('/') ? "" : "/", given);
    while (pattern.size() > 1 && pattern.ends_with('/')) pattern.pop_back();
    return pattern == "/" || fits(pattern, path) || fits(pattern + "/*", path);
}

/// "docker.io/library/alpine:3.20" is "alpine" too.
bool image_fits(const std::string& pattern, const std::string& image) {
    const auto without_tag = [](const std::string& text) {
        const size_t tag = text.find_first_of(":@", text.rfind('/') + 1);
        return text.substr(0, tag);
    };
    const std::string last = after_last_slash(image);
    return fits(pattern, image) || fits(pattern, without_tag(image)) || fits(pattern, last) ||
           fits(pattern, without_tag(last));
}

Answer any(const std::vector<std::string>& patterns, bool known, const auto& fit) {
    if (patterns.empty() || std::ranges::any_of(patterns, fit)) return Answer::yes;
    return known ? Answer::no : Answer::unknown;
}

}  // namespace

Answer Filter::matches(const Member& member, const std::string& command) const {
    const std::string& image = member.container.image;
    const std::array answers = {
        any(cgroups, true,
            [&](const std::string& one) { return cgroup_fits(one, member.container.cgroup); }),
        any(names, member.resolved, [&](const std::string& one) { return name_fits(one, member); }),
        any(images, member.resolved,
            [&](const std::string& one) { return !image.empty() && image_fits(one, image); }),
        any(commands, !command.empty(), [&](const std::string& one) {
            return !command.empty() && (fits(one, command) || fits(one, after_last_slash(command)));
        })};
    return *std::ranges::min_element(answers, {}, [](Answer answer) {
        return answer == Answer::no ? 0 : answer == Answer::unknown ? 1 : 2;
    });
}

std::string Filter::text() const {
    std::vector<std::string> parts;
    const auto add = [&](const char* kind, const std::vector<std::string>& patterns) {
        if (!patterns.empty())
            parts.push_back(fmt::format("{} {}", kind, fmt::join(patterns, " or ")));
    };
    add("name", names);
    add("cgroup", cgroups);
    add("image", images);
    add("command", commands);
    return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace memplate::trace
