// SPDX-License-Identifier: Apache-2.0
#include "pool/format.h"

#include <set>

#include "pool/bytes.h"
#include "util/hash.h"
#include "util/text.h"

namespace memplate::pool {
namespace {

constexpr std::string_view superblock_magic = "MEMPLATE";
constexpr std::string_view lease_magic = "MEMLEASE";
constexpr std::string_view catalogue_magic = "MEMCATLG";

// FORMAT.md has the tables these offsets come from.
constexpr size_t superblock_used = 112;
constexpr size_t superblock_crc_at = 4092;
constexpr size_t lease_crc_at = 508;
constexpr size_t lease_used = 268;

void store_id(std::span<std::byte> block, size_t at, const std::array<uint8_t, 16>& id) {
    std::memcpy(block.subspan(at, id.size()).data(), id.data(), id.size());
}

std::array<uint8_t, 16> load_id(std::span<const std::byte> block, size_t at) {
    std::array<uint8_t, 16> id{};
    std::memcpy(id.data(), block.subspan(at, id.size()).data(), id.size());
    return id;
}

bool plausible(const Superblock& s) {
    const auto aligned = [](uint64_t v) { return v % page_size == 0; };
    if (!aligned(s.size_bytes) || !aligned(s.slot_bytes) || !aligned(s.data_offset) ||
        !aligned(s.slot_offset[0]) || !aligned(s.slot_offset[1]))
        return false;
    if (s.size_bytes > max_pool_bytes || s.slot_bytes == 0 || s.slot_bytes > max_slot_bytes)
        return false;
    if (s.slot_offset[0] < slots_offset || s.slot_offset[0] > max_pool_bytes ||
        s.slot_offset[1] > max_pool_bytes || s.data_offset > s.size_bytes)
        return false;
    return s.slot_offset[0] + s.slot_bytes <= s.slot_offset[1] &&
           s.slot_offset[1] + s.slot_bytes <= s.data_offset && s.slot <= 1 &&
           s.catalogue_bytes >= catalogue_header_bytes && s.catalogue_bytes <= s.slot_bytes &&
           s.generation > 0 && s.generation < UINT64_MAX / 2;
}

void store_blob(std::span<std::byte> entry, size_t at, const BlobLocation& blob) {
    store<uint64_t>(entry, at, blob.first_page);
    store<uint64_t>(entry, at + 8, blob.bytes);
    store<uint32_t>(entry, at + 16, blob.crc);
}

Result<BlobLocation> load_blob(std::span<const std::byte> entry, size_t at, uint64_t total_pages) {
    BlobLocation blob{load<uint64_t>(entry, at), load<uint64_t>(entry, at + 8),
                      load<uint32_t>(entry, at + 16)};
    if (load<uint32_t>(entry, at + 20) != 0) return fail("reserved bytes are set");
    if (blob.bytes == 0 && blob != BlobLocation{}) return fail("an empty blob has a place");
    if (blob.bytes > max_blob_bytes || !inside(blob.extent(), total_pages))
        return fail("a blob lies outside the pool");
    return blob;
}

void encode_entry(std::span<std::byte> out, const CatalogueEntry& e) {
    store<uint64_t>(out, 0, e.id);
    store<uint32_t>(out, 8, static_cast<uint32_t>(e.state));
    store<int64_t>(out, 16, e.created);
    store<uint64_t>(out, 24, e.data_pages);
    store<uint64_t>(out, 32, e.profile_generation);
    store_blob(out, 40, e.manifest);
    store_blob(out, 64, e.profile);
    store_blob(out, 88, e.extent_table);
    store_id(out, 112, e.hash);
    store_text(out.subspan(128, max_name_bytes + 1), e.name);
    store_text(out.subspan(192, max_name_bytes + 1), e.domain);
}

Result<CatalogueEntry> decode_entry(std::span<const std::byte> in, uint64_t total_pages) {
    CatalogueEntry e;
    e.id = load<uint64_t>(in, 0);
    const auto state = load<uint32_t>(in, 8);
    if (state != static_cast<uint32_t>(TemplateState::live) &&
        state != static_cast<uint32_t>(TemplateState::retired))
        return fail("unknown state");
    e.state = static_cast<TemplateState>(state);
    if (load<uint32_t>(in, 12) != 0) return fail("reserved bytes are set");
    e.created = load<int64_t>(in, 16);
    e.data_pages = load<uint64_t>(in, 24);
    if (e.data_pages > total_pages) return fail("more pages than the pool has");
    e.profile_generation = load<uint64_t>(in, 32);
    TRY_ASSIGN(e.manifest, load_blob(in, 40, total_pages));
    TRY_ASSIGN(e.profile, load_blob(in, 64, total_pages));
    TRY_ASSIGN(e.extent_table, load_blob(in, 88, total_pages));
    e.hash = load_id(in, 112);
    const auto name = load_text(in.subspan(128, max_name_bytes + 1));
    const auto domain = load_text(in.subspan(192, max_name_bytes + 1));
    if (!name || !domain) return fail("a name is not text");
    TRY(check_name("template name", *name));
    if (!domain->empty()) TRY(check_name("domain", *domain));
    e.name = *name;
    e.domain = *domain;
    return e;
}

}  // namespace

Block encode(const Superblock& s) {
    Block block{};
    store_magic(block, superblock_magic);
    store<uint32_t>(block, 8, format_version);
    store<uint32_t>(block, 12, page_size);
    store_id(block, 16, s.uuid);
    store<uint64_t>(block, 32, s.generation);
    store<uint64_t>(block, 40, s.size_bytes);
    store<uint64_t>(block, 48, s.slot_offset[0]);
    store<uint64_t>(block, 56, s.slot_offset[1]);
    store<uint64_t>(block, 64, s.slot_bytes);
    store<uint64_t>(block, 72, s.data_offset);
    store<uint32_t>(block, 80, s.slot);
    store<uint32_t>(block, 84, s.catalogue_crc);
    store<uint64_t>(block, 88, s.catalogue_bytes);
    store<uint64_t>(block, 96, s.lease_epoch);
    store<uint64_t>(block, 104, s.features);
    store<uint32_t>(block, superblock_crc_at, crc32c(std::span(block).first(superblock_crc_at)));
    return block;
}

std::expected<Superblock, SuperblockFault> decode_superblock(const Block& block) {
    if (!has_magic(block, superblock_magic)) return std::unexpected(SuperblockFault::foreign);
    if (load<uint32_t>(block, superblock_crc_at) !=
        crc32c(std::span(block).first(superblock_crc_at)))
        return std::unexpected(SuperblockFault::damaged);
    if (load<uint32_t>(block, 8) > format_version) return std::unexpected(SuperblockFault::future);
    if (load<uint32_t>(block, 8) != format_version || load<uint32_t>(block, 12) != page_size ||
        !all_zero(std::span(block).subspan(superblock_used, superblock_crc_at - superblock_used)))
        return std::unexpected(SuperblockFault::damaged);
    if ((load<uint64_t>(block, 104) & ~known_features) != 0)
        return std::unexpected(SuperblockFault::future);
    Superblock s;
    s.uuid = load_id(block, 16);
    s.generation = load<uint64_t>(block, 32);
    s.size_bytes = load<uint64_t>(block, 40);
    s.slot_offset = {load<uint64_t>(block, 48), load<uint64_t>(block, 56)};
    s.slot_bytes = load<uint64_t>(block, 64);
    s.data_offset = load<uint64_t>(block, 72);
    s.slot = load<uint32_t>(block, 80);
    s.catalogue_crc = load<uint32_t>(block, 84);
    s.catalogue_bytes = load<uint64_t>(block, 88);
    s.lease_epoch = load<uint64_t>(block, 96);
    s.features = load<uint64_t>(block, 104);
    if (!plausible(s)) return std::unexpected(SuperblockFault::damaged);
    return s;
}

FutureVersion future_version(const Block& block) {
    const auto version = load<uint32_t>(block, 8);
    const uint64_t unknown =
        version > format_version ? 0 : load<uint64_t>(block, 104) & ~known_features;
    return {version, load<uint64_t>(block, 32), unknown};
}

std::optional<Superblock> newest_superblock(const std::array<Block, 2>& blocks) {
    std::optional<Superblock> newest;
    for (const Block& block : blocks) {
        const auto decoded = decode_superblock(block);
        if (decoded && (!newest || decoded->generation > newest->generation)) newest = *decoded;
    }
    return newest;
}

Superblock geometry_for(uint64_t size_bytes) {
    Superblock s;
    s.size_bytes = size_bytes / page_size * page_size;
    s.slot_bytes =
        std::clamp(size_bytes / 1024 / page_size * page_size, min_slot_bytes, max_slot_bytes);
    s.slot_offset = {slots_offset, slots_offset + s.slot_bytes};
    s.data_offset = slots_offset + 2 * s.slot_bytes;
    return s;
}

bool LeaseBlock::same_writer(const LeaseBlock& other) const {
    return epoch == other.epoch && boot_id == other.boot_id && pid == other.pid &&
           start_time == other.start_time;
}

std::array<std::byte, lease_bytes> encode(const LeaseBlock& lease) {
    std::array<std::byte, lease_bytes> out{};
    const std::span<std::byte> block(out);
    store_magic(block, lease_magic);
    store<uint64_t>(block, 8, lease.epoch);
    store<uint64_t>(block, 16, lease.held ? 1 : 0);
    store<uint64_t>(block, 24, lease.pid);
    store<uint64_t>(block, 32, lease.start_time);
    store<int64_t>(block, 40, lease.since);
    store_id(block, 48, lease.boot_id);
    store_text(block.subspan(64, 68), lease.host);
    store_text(block.subspan(132, 128), lease.purpose);
    store<uint64_t>(block, 260, lease.sequence);
    store<uint32_t>(block, lease_crc_at, crc32c(block.first(lease_crc_at)));
    return out;
}

namespace {

std::optional<LeaseBlock> decode_lease_copy(std::span<const std::byte> block) {
    if (!has_magic(block, lease_magic) ||
        load<uint32_t>(block, lease_crc_at) != crc32c(block.first(lease_crc_at)) ||
        !all_zero(block.subspan(lease_used, lease_crc_at - lease_used)))
        return std::nullopt;
    LeaseBlock lease;
    lease.epoch = load<uint64_t>(block, 8);
    const auto held = load<uint64_t>(block, 16);
    lease.held = held == 1;
    lease.pid = load<uint64_t>(block, 24);
    lease.start_time = load<uint64_t>(block, 32);
    lease.since = load<int64_t>(block, 40);
    lease.boot_id = load_id(block, 48);
    const auto host = load_text(block.subspan(64, 68));
    const auto purpose = load_text(block.subspan(132, 128));
    if (held > 1 || !host || !purpose) return std::nullopt;
    lease.host = *host;
    lease.purpose = *purpose;
    lease.sequence = load<uint64_t>(block, 260);
    return lease;
}

}  // namespace

std::optional<size_t> newest_lease_copy(const Block& whole) {
    const auto block = std::span<const std::byte>(whole);
    if (!all_zero(block.subspan(2 * lease_bytes))) return std::nullopt;
    const auto first = decode_lease_copy(block.first(lease_bytes));
    if (first && first->sequence == 0) {
        if (!all_zero(block.subspan(lease_bytes))) return std::nullopt;
        return 0;
    }
    // Of two copies one may be half written: that is what the other one is for.
    const auto second = decode_lease_copy(block.subspan(lease_bytes, lease_bytes));
    if (second && second->sequence > 0 && (!first || second->sequence > first->sequence)) return 1;
    if (first) return 0;
    return std::nullopt;
}

std::optional<LeaseBlock> decode_lease(const Block& block) {
    const auto copy = newest_lease_copy(block);
    if (!copy) return std::nullopt;
    return decode_lease_copy(std::span(block).subspan(*copy * lease_bytes, lease_bytes));
}

uint64_t CatalogueEntry::all_pages() const {
    return data_pages + manifest.extent().count + profile.extent().count +
           extent_table.extent().count;
}

TemplateRecord CatalogueEntry::record() const {
    return {id,         name,           domain,        to_hex(hash),      created,
            data_pages, manifest.bytes, profile.bytes, profile_generation};
}

const CatalogueEntry* Catalogue::by_id(uint64_t id) const {
    const auto it = std::ranges::find(entries, id, &CatalogueEntry::id);
    return it == entries.end() ? nullptr : &*it;
}

const CatalogueEntry* Catalogue::live(std::string_view name) const {
    const auto it = std::ranges::find_if(entries, [&](const CatalogueEntry& e) {
        return e.state == TemplateState::live && e.name == name;
    });
    return it == entries.end() ? nullptr : &*it;
}

std::vector<std::byte> encode(const Catalogue& catalogue) {
    std::vector<std::byte> out(catalogue_header_bytes + catalogue.entries.size() * entry_bytes);
    const std::span<std::byte> bytes(out);
    store_magic(bytes, catalogue_magic);
    store<uint64_t>(bytes, 8, catalogue.generation);
    store<uint64_t>(bytes, 16, catalogue.next_id);
    store<uint64_t>(bytes, 24, catalogue.entries.size());
    for (size_t i = 0; i < catalogue.entries.size(); ++i)
        encode_entry(bytes.subspan(catalogue_header_bytes + i * entry_bytes, entry_bytes),
                     catalogue.entries[i]);
    return out;
}

Result<Catalogue> decode_catalogue(std::span<const std::byte> bytes, uint64_t total_pages) {
    if (bytes.size() < catalogue_header_bytes || !has_magic(bytes, catalogue_magic))
        return fail("not a catalogue");
    Catalogue catalogue;
    catalogue.generation = load<uint64_t>(bytes, 8);
    catalogue.next_id = load<uint64_t>(bytes, 16);
    const auto count = load<uint64_t>(bytes, 24);
    if (!all_zero(bytes.subspan(32, catalogue_header_bytes - 32)))
        return fail("reserved bytes are set");
    if (catalogue.next_id == 0 || catalogue.next_id > max_template_id)
        return fail("impossible next template id");
    if (count != (bytes.size() - catalogue_header_bytes) / entry_bytes ||
        (bytes.size() - catalogue_header_bytes) % entry_bytes != 0)
        return fail("length and number of templates disagree");
    std::set<std::string, std::less<>> names;
    uint64_t last_id = 0;
    for (uint64_t i = 0; i < count; ++i) {
        TRY_ASSIGN(
            CatalogueEntry entry,
            decode_entry(bytes.subspan(catalogue_header_bytes + i * entry_bytes, entry_bytes),
                         total_pages));
        if (entry.id <= last_id || entry.id >= catalogue.next_id)
            return fail("template ids are not in order");
        if (entry.state == TemplateState::live && !names.insert(entry.name).second)
            return fail("two templates of one name");
        last_id = entry.id;
        catalogue.entries.push_back(std::move(entry));
    }
    return catalogue;
}

std::string to_hex(std::span<const uint8_t, 16> bytes) {
    std::string text;
    for (const uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
    return text;
}

std::optional<std::array<uint8_t, 16>> from_hex(std::string_view text) {
    std::array<uint8_t, 16> out{};
    if (text.size() != 2 * out.size()) return std::nullopt;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        int digit = 0;
        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if (c >= 'a' && c <= 'f') {
            digit = c - 'a' + 10;
        } else {
            return std::nullopt;
        }
        out[i / 2] = static_cast<uint8_t>(out[i / 2] << 4 | digit);
    }
    return out;
}

std::string to_uuid(std::span<const uint8_t, 16> bytes) {
    std::string text = to_hex(bytes);
    for (const size_t at : {20, 16, 12, 8}) text.insert(at, 1, '-');
    return text;
}

}  // namespace memplate::pool
