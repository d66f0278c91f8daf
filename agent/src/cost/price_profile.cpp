// SPDX-License-Identifier: Apache-2.0
#include "cost/price_profile.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "util/fs.h"
#include "util/text.h"
#include "util/toml_reader.h"

namespace memplate::cost {
namespace {

constexpr int64_t most = int64_t{1} << 50;

Result<> read_decimal(const TomlReader& reader, std::string_view key, Decimal& value) {
    std::string text;
    TRY(reader.read(key, text));
    if (!reader.has(key)) return {};
    const auto parsed = Decimal::parse(text);
    if (!parsed || *parsed < Decimal(0) || *parsed > Decimal(1'000'000))
        return reader.error(key, fmt::format("\"{}\" is not an amount; write one as in \"0.20\" or "
                                             "\"1.667e-5\"",
                                             printable(text, 40)));
    value = *parsed;
    return {};
}

/// "0.083" → 83.
Result<> read_thousandths(const TomlReader& reader, std::string_view key, uint64_t& value) {
    Decimal amount;
    TRY(read_decimal(reader, key, amount));
    if (!reader.has(key)) return {};
    if (amount.rounded(3) != amount) return reader.error(key, "has more than three decimals");
    TRY_ASSIGN(value, parse_unsigned(amount.times(1000).text()));
    return {};
}

bool is_date(std::string_view text) {
    constexpr std::string_view shape = "dddd-dd-dd";
    return std::ranges::equal(
        text, shape, [](char c, char s) { return s == 'd' ? c >= '0' && c <= '9' : c == s; });
}

Result<> read_price(const toml::table& root, const std::string& origin, PriceProfile& profile) {
    const TomlReader top(root, "", origin);
    TRY(top.require("price", "[price] with per_gb_second"));
    TRY_ASSIGN(const toml::table* table, top.table("price"));
    const TomlReader reader(*table, "price.", origin);
    TRY(reader.check_keys(
        {"per_gb_second", "per_million_requests", "per_cpu_second", "unit_decimals", "volume"}));
    TRY(reader.require("per_gb_second", "\"1.667e-5\""));
    profile.rates.resize(1);
    TRY(read_decimal(reader, "per_gb_second", profile.rates.front().per_gb_second));
    TRY(read_decimal(reader, "per_million_requests", profile.per_million_requests));
    TRY(read_decimal(reader, "per_cpu_second", profile.per_cpu_second));
    if (reader.has("unit_decimals")) {
        int decimals = 0;
        TRY(reader.read("unit_decimals", decimals, 1, Decimal::digits));
        profile.unit_decimals = decimals;
    }
    TRY_ASSIGN(const auto volumes, reader.tables("volume"));
    for (const toml::table* volume : volumes) {
        const TomlReader one(*volume, "price.volume.", origin);
        TRY(one.check_keys({"above_gb_seconds", "per_gb_second"}));
        TRY(one.require("above_gb_seconds", "6000000000"));
        TRY(one.require("per_gb_second", "\"1.5e-5\""));
        PriceProfile::Rate rate;
        TRY(one.read("above_gb_seconds", rate.above_gb_seconds, 1, most));
        TRY(read_decimal(one, "per_gb_second", rate.per_gb_second));
        if (rate.above_gb_seconds <= profile.rates.back().above_gb_seconds)
            return one.error("above_gb_seconds", "is not above the one before; sort them");
        profile.rates.push_back(rate);
    }
    if (profile.unit_decimals && profile.rates.size() > 1)
        return reader.error("volume", "cannot be combined with unit_decimals; remove one");
    return {};
}

Result<> read_resources(const toml::table& root, const std::string& origin, PriceProfile& profile) {
    const TomlReader top(root, "", origin);
    TRY_ASSIGN(const toml::table* time, top.table("time"));
    if (time != nullptr) {
        const TomlReader reader(*time, "time.", origin);
        TRY(reader.check_keys({"granularity_ms", "minimum_ms"}));
        TRY(reader.read("granularity_ms", profile.granularity_ms, 1, 3'600'000));
        TRY(reader.read("minimum_ms", profile.minimum_ms, 0, 3'600'000));
    }
    TRY_ASSIGN(const toml::table* memory, top.table("memory"));
    if (memory != nullptr) {
        const TomlReader reader(*memory, "memory.", origin);
        TRY(reader.check_keys({"minimum_mb", "maximum_mb", "step_mb"}));
        TRY(reader.read("minimum_mb", profile.minimum_mb, 1, most));
        TRY(reader.read("maximum_mb", profile.maximum_mb, 1, most));
        TRY(reader.read("step_mb", profile.step_mb, 1, most));
        if (profile.maximum_mb < profile.minimum_mb)
            return reader.error("maximum_mb", "is missing or below minimum_mb");
    }
    TRY_ASSIGN(const toml::table* cpu, top.table("cpu"));
    if (cpu != nullptr) {
        const TomlReader reader(*cpu, "cpu.", origin);
        TRY(reader.check_keys({"unit", "default"}));
        TRY(reader.require("unit", "\"vCPU\""));
        TRY(reader.read("unit", profile.cpu_unit));
        TRY(read_thousandths(reader, "default", profile.default_cpu_milli));
    }
    TRY_ASSIGN(const auto sizes, top.tables("size"));
    for (const toml::table* size : sizes) {
        const TomlReader reader(*size, "size.", origin);
        TRY(reader.check_keys({"mb", "cpu"}));
        TRY(reader.require("mb", "512"));
        PriceProfile::Size one;
        TRY(reader.read("mb", one.mb, 1, most));
        TRY(read_thousandths(reader, "cpu", one.cpu_milli));
        if (!profile.sizes.empty() && one.mb <= profile.sizes.back().mb)
            return reader.error("mb", "is not above the one before; sort the sizes");
        profile.sizes.push_back(one);
    }
    if (profile.sizes.empty() == (memory == nullptr))
        return top.error("memory", "give either [memory] or [[size]] blocks");
    if (!profile.sizes.empty()) {
        profile.minimum_mb = profile.sizes.front().mb;
        profile.maximum_mb = profile.sizes.back().mb;
    }
    TRY_ASSIGN(const toml::table* free, top.table("free"));
    if (free != nullptr) {
        const TomlReader reader(*free, "free.", origin);
        TRY(reader.check_keys({"requests", "gb_seconds", "cpu_seconds"}));
        TRY(reader.read("requests", profile.free_requests, 0, most));
        TRY(reader.read("gb_seconds", profile.free_gb_seconds, 0, most));
        TRY(reader.read("cpu_seconds", profile.free_cpu_seconds, 0, most));
    }
    return {};
}

}  // namespace

Result<PriceProfile> PriceProfile::parse(std::string_view text, const std::string& origin) {
    TRY_ASSIGN(const toml::table root, parse_toml(text, origin));
    const TomlReader top(root, "", origin);
    TRY(top.check_keys({"name", "provider", "region", "currency", "effective", "source", "billed",
                        "unverified", "time", "memory", "size", "price", "cpu", "free"}));
    for (const char* key : {"name", "provider", "region", "currency", "effective", "source"})
        TRY(top.require(key, "\"…\""));
    PriceProfile profile;
    profile.file = origin;
    TRY(top.read("name", profile.name));
    TRY(top.read("provider", profile.provider));
    TRY(top.read("region", profile.region));
    TRY(top.read("currency", profile.currency));
    TRY(top.read("effective", profile.effective));
    TRY(top.read("source", profile.source));
    TRY(top.read("billed", profile.billed));
    TRY(top.read("unverified", profile.unverified));
    if (auto good = check_name("name", profile.name); !good)
        return top.error("name", std::move(good.error().message));
    if (!is_date(profile.effective))
        return top.error("effective", "is not a date; write one as \"2020-12-01\"");
    for (const std::string& key : profile.unverified)
        if (!root.at_path(key))
            return top.error(
                "unverified",
                fmt::format("names \"{}\", which this file does not have", printable(key, 64)));
    TRY(read_price(root, origin, profile));
    TRY(read_resources(root, origin, profile));
    return profile;
}

Json PriceProfile::to_json() const {
    return {{"name", name},
            {"provider", provider},
            {"region", region},
            {"currency", currency},
            {"effective", effective},
            {"source", source},
            {"unverified", unverified}};
}

std::string PriceProfile::money(Decimal amount, int decimals) const {
    // Of less than a cent its first two digits.
    if (amount > Decimal(0) && amount < Decimal(1).times(1, 100))
        for (Int128 scale = 100; decimals < 12 && amount.times(scale) < Decimal(10); scale *= 10)
            decimals++;
    const std::string number = amount.text(decimals);
    return currency == "USD" ? "$" + number : number + " " + currency;
}

std::string PriceProfile::title() const {
    return fmt::format("{}: {}, {}, prices of {}", name, provider, region, effective);
}

Result<std::vector<PriceProfile>> load_profiles(const std::string& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0)
        return Failure(std::move(fail_errno(errno, path).error()).context("price list"));
    std::vector<std::string> files;
    if (S_ISDIR(status.st_mode)) {
        TRY_ASSIGN(const auto names, list_directory(AT_FDCWD, path));
        for (const std::string& name : names)
            if (name.ends_with(".toml")) files.push_back(path + "/" + name);
        if (files.empty())
            return fail(ErrorKind::usage, fmt::format("price list: no *.toml file in {}", path));
    } else {
        files.push_back(path);
    }
    std::vector<PriceProfile> profiles;
    for (const std::string& file : files) {
        TRY_ASSIGN(const std::string text, read_file(file, size_t{1} << 20));
        TRY_ASSIGN(auto profile, PriceProfile::parse(text, file));
        profiles.push_back(std::move(profile));
    }
    std::ranges::sort(profiles, [](const PriceProfile& a, const PriceProfile& b) {
        return std::tie(a.name, a.effective) < std::tie(b.name, b.effective);
    });
    return profiles;
}

Result<std::string> installed_profiles() {
    TRY_ASSIGN(const std::string binary, absolute_path("/proc/self/exe"));
    const std::string folder = binary.substr(0, binary.rfind('/'));
    std::string beside = folder + "/prices";
    if (::access(beside.c_str(), R_OK) == 0) return beside;
    std::string shared = folder + "/../share/memplate/prices";
    if (::access(shared.c_str(), R_OK) == 0) return shared;
    return fail(
        fmt::format("price lists: neither {} nor {} exists; install memplate completely or "
                    "give --prices FILE",
                    beside, shared));
}

Result<PriceProfile> find_profile(const std::vector<PriceProfile>& profiles,
                                  const std::string& name) {
    const PriceProfile* found = nullptr;  // the last of that name is the newest
    std::set<std::string> names;
    for (const PriceProfile& profile : profiles) {
        names.insert(profile.name);
        if (profile.name == name) found = &profile;
    }
    if (found != nullptr) return *found;
    return fail(ErrorKind::usage, fmt::format("profile \"{}\": unknown; known: {}",
                                              printable(name, 64), fmt::join(names, ", ")));
}

}  // namespace memplate::cost
