// SPDX-License-Identifier: Apache-2.0
#include "util/settings.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/stat.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string_view>

#include "util/fs.h"
#include "util/text.h"

namespace memplate {
namespace {

constexpr size_t file_limit = size_t{1} << 20;

/// What is wrong with a value, or an empty string.
using Check = std::string (*)(const std::string&);

std::string check_directory(const std::string& value) {
    return value.starts_with('/') ? "" : "must be an absolute path";
}

std::string check_optional_directory(const std::string& value) {
    return value.empty() ? "" : check_directory(value);
}

std::string check_interface(const std::string& value) {
    const bool valid = !value.empty() && value.size() < IFNAMSIZ && value != "." && value != ".." &&
                       value.find_first_of("/: \t\n") == std::string::npos;
    return valid ? "" : "must be an interface name of 1 to 15 characters";
}

std::string check_subnet(const std::string& value) {
    constexpr const char* expected = "must be an IPv4 network like \"10.213.0.0/16\"";
    const auto parts = split(value, '/');
    in_addr address{};
    if (parts.size() != 2 || ::inet_pton(AF_INET, parts[0].c_str(), &address) != 1) return expected;
    const auto prefix = parse_unsigned(parts[1]);
    // The network, the bridge, an instance and the broadcast address must fit.
    if (!prefix || *prefix < 8 || *prefix > 30) return "must have a prefix of /8 to /30";
    if ((ntohl(address.s_addr) & (UINT32_MAX >> *prefix)) != 0)
        return "must have no bits set below its prefix";
    return "";
}

std::string check_size(const std::string& value) {
    return parse_size(value) ? "" : "must be a size like \"1G\"";
}

std::string check_seconds(const std::string& value) {
    const auto seconds = parse_unsigned(value);
    return seconds && *seconds <= 86400 ? "" : "must be a number of seconds from 0 to 86400";
}

struct Key {
    std::string_view name;
    std::string Settings::* value;
    Check check;
    std::string_view comment;
    bool number = false;  ///< written without quotes
};

constexpr std::array keys = {
    Key{"state_dir", &Settings::state_dir, check_directory,
        "# Instances, locks and logs of this host.\n"},
    Key{"cache_dir", &Settings::cache_dir, check_optional_directory,
        "# Restore-ready image directories; best on a tmpfs. Empty: state_dir/cache if that is a\n"
        "# tmpfs, else /dev/shm/memplate.\n"},
    Key{"criu_root", &Settings::criu_root, check_optional_directory,
        "# A directory that holds usr/sbin/criu with its libraries. Empty: \"/\" if the\n"
        "# distribution's criu passes `criu check`, else the build that scripts/install-deps\n"
        "# extracted (~/.cache/memplate/criu).\n"},
    Key{"bridge", &Settings::bridge, check_interface,
        "# The network bridge that instances are connected to; created when missing.\n"},
    Key{"subnet", &Settings::subnet, check_subnet,
        "# IPv4 network for instances; the bridge takes the first address.\n"},
    Key{"lazy_above", &Settings::lazy_above, check_size,
        "# Engine attached: templates of at least this size deliver pages that their profile saw\n"
        "# neither read nor written at the first touch instead of before the start.\n"},
    Key{"hold_seconds", &Settings::hold_seconds, check_seconds,
        "# Engine attached: how long a template stays in the kernel module after its last use, so\n"
        "# that the next start finds it there. 0: no longer than the command that needs it.\n",
        true},
};

std::string known_keys() {
    std::string list;
    for (const Key& key : keys) list += (list.empty() ? "" : ", ") + std::string(key.name);
    return list;
}

std::string type_name(toml::node_type type) {
    std::ostringstream text;
    text << type;
    return text.str();
}

Failure wrong(const std::string& path, const toml::source_region& region, std::string_view what) {
    return fail(ErrorKind::usage, fmt::format("{}:{}: {}", path, region.begin.line, what));
}

Result<> apply(Settings& settings, const toml::table& table, const std::string& path) {
    for (const auto& [name, node] : table) {
        const auto* const key = std::ranges::find(keys, name.str(), &Key::name);
        if (key == keys.end())
            return wrong(
                path, name.source(),
                fmt::format("unknown key {:?}; the keys are {}", name.str(), known_keys()));
        const auto* const text = node.as_string();
        const auto* const number = node.as_integer();
        if (key->number ? number == nullptr : text == nullptr)
            return wrong(
                path, name.source(),
                fmt::format("key {:?} must be {}, not {}", name.str(),
                            key->number ? "an integer" : "a string", type_name(node.type())));
        const std::string value = key->number ? std::to_string(number->get()) : text->get();
        if (const std::string problem = key->check(value); !problem.empty())
            return wrong(path, node.source(),
                         key->number
                             ? fmt::format("key {:?} is {}; it {}", name.str(), value, problem)
                             : fmt::format("key {:?} is {:?}; it {}", name.str(), value, problem));
        settings.*(key->value) = value;
    }
    return {};
}

Result<> apply_file(Settings& settings, const std::string& path) {
    TRY_ASSIGN(const std::string text, read_file(path, file_limit));
    try {
        return apply(settings, toml::parse(text, path), path);
    } catch (const toml::parse_error& error) {
        return wrong(path, error.source(), error.description());
    } catch (const std::exception& error) {
        return fail(ErrorKind::usage, fmt::format("{}: {}", path, error.what()));
    }
}

Settings with_defaults(Settings settings) {
    if (settings.cache_dir.empty())
        settings.cache_dir = Settings::default_cache_dir(settings.state_dir);
    return settings;
}

}  // namespace

std::string Settings::default_cache_dir(const std::string& state_dir) {
    // The directory need not exist yet: what counts is where it would be created.
    std::filesystem::path existing = state_dir + "/cache";
    struct stat status{};
    while (existing.has_relative_path() && ::stat(existing.c_str(), &status) != 0)
        existing = existing.parent_path();
    return on_tmpfs(existing.string()) ? state_dir + "/cache" : "/dev/shm/memplate";
}

Result<Settings> Settings::load_directory(const std::string& directory) {
    Settings settings;
    if (auto applied = apply_file(settings, directory + "/config.toml");
        !applied && applied.error().code != ENOENT)
        return Failure(std::move(applied.error()));
    const std::string drop_ins = directory + "/config.d";
    auto names = list_directory(AT_FDCWD, drop_ins);
    if (!names && names.error().code != ENOENT) return Failure(std::move(names.error()));
    if (names) {
        for (const std::string& name : *names)
            if (name.ends_with(".toml") && !name.starts_with('.'))
                TRY(apply_file(settings, drop_ins + "/" + name));
    }
    return with_defaults(std::move(settings));
}

Result<Settings> Settings::load() {
    const char* const named = ::getenv("MEMPLATE_CONFIG");
    if (named == nullptr || *named == '\0') return load_directory("/etc/memplate");
    Settings settings;
    TRY_CONTEXT(apply_file(settings, named), "MEMPLATE_CONFIG");
    return with_defaults(std::move(settings));
}

std::string Settings::documentation() {
    std::string text =
        "# Memplate's configuration: /etc/memplate/config.toml, then "
        "/etc/memplate/config.d/*.toml\n"
        "# in name order, each overriding the ones before. MEMPLATE_CONFIG names another file\n"
        "# instead. Flags on the command line override all. Every key is shown at its default.\n";
    const Settings defaults;
    for (const Key& key : keys) {
        const std::string& value = defaults.*(key.value);
        text += fmt::format("\n{}#{} = {}\n", key.comment, key.name,
                            key.number ? value : fmt::format("{:?}", value));
    }
    return text;
}

}  // namespace memplate
