// SPDX-License-Identifier: Apache-2.0
#include "pool/reference.h"

#include "pool/dax_medium.h"
#include "pool/format.h"
#include "util/fs.h"
#include "util/text.h"

namespace memplate::pool {
namespace {

constexpr std::string_view first_line = "memplate pool reference";
constexpr size_t longest_reference = 4096;
constexpr size_t uuid_length = 36;

/// The UUID of the pool on the medium; empty if there is none, or a damaged one.
std::string uuid_on(const Medium& medium) {
    std::array<Block, 2> blocks;
    for (size_t i = 0; i < blocks.size(); ++i) {
        if (!medium.read(blocks[i], superblock_offset[i])) return {};
    }
    const auto superblock = newest_superblock(blocks);
    return superblock ? to_uuid(superblock->uuid) : std::string();
}

}  // namespace

std::string format_reference(const PoolReference& reference) {
    return fmt::format("{}\ndevice {}\nuuid {}\n", first_line, reference.device, reference.uuid);
}

std::optional<PoolReference> parse_reference(std::string_view text) {
    const auto lines = split(text, '\n');
    if (lines.size() != 4 || lines[0] != first_line || !lines[1].starts_with("device /") ||
        !lines[2].starts_with("uuid ") || lines[2].size() != 5 + uuid_length || !lines[3].empty())
        return std::nullopt;
    PoolReference reference;
    reference.device = lines[1].substr(std::string_view("device ").size());
    reference.uuid = lines[2].substr(std::string_view("uuid ").size());
    return reference;
}

std::optional<PoolReference> read_reference(const std::string& path) {
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode) ||
        st.st_size > static_cast<off_t>(longest_reference))
        return std::nullopt;
    const auto text = read_file(path, longest_reference);
    return text ? parse_reference(*text) : std::nullopt;
}

Result<std::shared_ptr<Medium>> follow_reference(const PoolReference& reference,
                                                 const std::string& path, OpenMode mode,
                                                 const DaxInventory& inventory) {
    auto named = DaxMedium::open(reference.device, mode);
    const std::string found = named ? uuid_on(**named) : std::string();
    if (found == reference.uuid) return *named;
    if (!named && named.error().code != ENOENT && named.error().code != ENXIO)
        return Failure(std::move(named.error()).context(path));
    TRY_ASSIGN(const auto devices, inventory.devices());
    for (const DaxDevice& device : devices) {
        const std::string node = "/dev/" + device.name;
        if (device.mode != DaxDevice::Mode::devdax || node == reference.device) continue;
        auto other = DaxMedium::open(node, mode);
        if (other && uuid_on(**other) == reference.uuid) return *other;
    }
    // Damaged superblocks have no UUID: opening says what is wrong with them.
    if (named && found.empty()) return *named;
    auto failure = fail(
        fmt::format("{}: stands for the pool {} that was on {}, and no device of this host holds "
                    "it now; `daxctl list -Di` shows them. If the pool is gone, remove the file",
                    path, reference.uuid, reference.device));
    failure.error().code = ENOENT;
    return failure;
}

Result<std::shared_ptr<Medium>> open_medium(const std::string& path, OpenMode mode) {
    struct stat st{};
    if (::stat(path.c_str(), &st) == 0) {
        if (is_dax_node(st)) return DaxMedium::open(path, mode);
        if (const auto reference = read_reference(path))
            return follow_reference(*reference, path, mode, SystemDaxInventory());
    }
    return FileMedium::open(path, mode);
}

}  // namespace memplate::pool
