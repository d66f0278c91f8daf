// SPDX-License-Identifier: Apache-2.0
#include "sandbox/address.h"

#include <arpa/inet.h>
#include <fcntl.h>

#include <filesystem>

#include "util/fs.h"
#include "util/lock.h"
#include "util/text.h"

namespace memplate::sandbox {

Result<uint32_t> parse_address(const std::string& text) {
    in_addr address{};
    if (::inet_pton(AF_INET, text.c_str(), &address) != 1)
        return fail(fmt::format("'{}' is not an IPv4 address", text));
    return ntohl(address.s_addr);
}

Result<Subnet> Subnet::parse(const std::string& text) {
    const auto bad = [&](std::string_view why) {
        return fail(ErrorKind::usage,
                    fmt::format("subnet '{}': {}; write it as 10.213.0.0/16", text, why));
    };
    const auto parts = split(text, '/');
    if (parts.size() != 2) return bad("not of the form ADDRESS/PREFIX");
    const auto address = parse_address(parts[0]);
    if (!address) return bad("not an IPv4 address");
    const auto prefix = parse_unsigned(parts[1]);
    if (!prefix || *prefix < 8 || *prefix > 30) return bad("the prefix must be 8 to 30");
    const Subnet subnet{*address, static_cast<unsigned>(*prefix)};
    if ((*address & ((uint32_t{1} << (32 - subnet.prefix)) - 1)) != 0)
        return bad("bits after the prefix are set");
    return subnet;
}

std::string address_text(uint32_t address) {
    return fmt::format("{}.{}.{}.{}", address >> 24, address >> 16 & 255, address >> 8 & 255,
                       address & 255);
}

std::string hardware_address(uint32_t address) {
    return fmt::format("02:00:{:02x}:{:02x}:{:02x}:{:02x}", address >> 24, address >> 16 & 255,
                       address >> 8 & 255, address & 255);
}

std::string link_name(uint32_t address) {
    return fmt::format("mp{:08x}", address);
}

Result<uint32_t> choose_address(const Subnet& subnet, const std::set<uint32_t>& used,
                                uint32_t previous) {
    const uint64_t count = uint64_t{subnet.last()} - subnet.first() + 1;
    const bool inside = previous >= subnet.first() && previous <= subnet.last();
    const uint64_t start = inside ? previous - subnet.first() + 1 : 0;
    for (uint64_t i = 0; i < count; ++i) {
        const auto candidate = static_cast<uint32_t>(subnet.first() + (start + i) % count);
        if (!used.contains(candidate)) return candidate;
    }
    return fail(
        fmt::format("all {} addresses of {}/{} are in use; set a larger 'subnet' in the "
                    "configuration or stop instances",
                    count, address_text(subnet.network), subnet.prefix));
}

Result<std::set<uint32_t>> addresses_in_use(const std::string& directory) {
    const std::filesystem::path own(directory);
    const std::string parent = own.parent_path().string();
    std::set<uint32_t> used;
    TRY_ASSIGN(const auto names, list_directory(AT_FDCWD, parent));
    for (const auto& name : names) {
        if (name == own.filename().string()) continue;
        const std::string sibling = parent + "/" + name;
        // Directories come and go meanwhile: what cannot be read is not a live sandbox.
        const auto text = read_file(sibling + "/address", 64);
        if (!text) continue;
        const auto address = parse_address(std::string(trim(*text)));
        if (!address) continue;
        const auto lock = open_at(AT_FDCWD, sibling + "/lock", O_RDWR);
        if (!lock) continue;
        TRY_ASSIGN(const bool held, range_is_locked(lock->get(), LockMode::exclusive, 0, 0));
        if (held) used.insert(*address);
    }
    return used;
}

}  // namespace memplate::sandbox
