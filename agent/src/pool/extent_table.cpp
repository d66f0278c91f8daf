// SPDX-License-Identifier: Apache-2.0
//
// Extent tables: which pages are a template's, with their checksums.
#include "pool/bytes.h"
#include "pool/format.h"

namespace memplate::pool {
namespace {

constexpr std::string_view extent_table_magic = "MEMEXTNT";
constexpr std::string_view dedup_table_magic = "MEMEXTND";
constexpr size_t extent_table_header_bytes = 16;
constexpr size_t dedup_table_header_bytes = 32;
constexpr size_t piece_bytes = 16;
constexpr size_t page_hash_bytes = 8;

}  // namespace

std::vector<std::byte> encode(const ExtentTable& table) {
    const size_t header = table.dedup ? dedup_table_header_bytes : extent_table_header_bytes;
    const size_t hashes_at = header + table.pieces.size() * piece_bytes;
    std::vector<std::byte> out(hashes_at + table.page_hashes.size() * page_hash_bytes);
    const std::span<std::byte> bytes(out);
    store_magic(bytes, table.dedup ? dedup_table_magic : extent_table_magic);
    store<uint64_t>(bytes, 8, table.pieces.size());
    if (table.dedup) store<uint64_t>(bytes, 16, table.references);
    for (size_t i = 0; i < table.pieces.size(); ++i) {
        const Piece& piece = table.pieces[i];
        const size_t at = header + i * piece_bytes;
        store<uint64_t>(bytes, at, piece.extent.first);
        store<uint32_t>(bytes, at + 8, static_cast<uint32_t>(piece.extent.count));
        store<uint32_t>(bytes, at + 12, piece.crc);
    }
    for (size_t i = 0; i < table.page_hashes.size(); ++i)
        store<uint64_t>(bytes, hashes_at + i * page_hash_bytes, table.page_hashes[i]);
    return out;
}

Result<ExtentTable> decode_extent_table(std::span<const std::byte> bytes, uint64_t data_pages,
                                        uint64_t total_pages, bool dedup) {
    const size_t header = dedup ? dedup_table_header_bytes : extent_table_header_bytes;
    if (bytes.size() < header || !has_magic(bytes, dedup ? dedup_table_magic : extent_table_magic))
        return fail("not an extent table");
    ExtentTable table;
    table.dedup = dedup;
    // data_pages is at most total_pages, which is far below what could overflow here.
    const uint64_t hashes_bytes = dedup ? data_pages * page_hash_bytes : 0;
    const auto count = load<uint64_t>(bytes, 8);
    if (bytes.size() - header < hashes_bytes) return fail("length and number of pages disagree");
    const uint64_t pieces_bytes = bytes.size() - header - hashes_bytes;
    if (count != pieces_bytes / piece_bytes || pieces_bytes % piece_bytes != 0)
        return fail("length and number of extents disagree");
    if (dedup) {
        table.references = load<uint64_t>(bytes, 16);
        if (load<uint64_t>(bytes, 24) != 0) return fail("reserved bytes are set");
        if (table.references < data_pages || table.references > max_template_id)
            return fail("impossible number of references");
    }
    table.pieces.reserve(count);
    uint64_t pages = 0;
    uint64_t last_end = 0;
    for (uint64_t i = 0; i < count; ++i) {
        const size_t at = header + i * piece_bytes;
        const Piece piece{{load<uint64_t>(bytes, at), load<uint32_t>(bytes, at + 8)},
                          load<uint32_t>(bytes, at + 12)};
        if (piece.extent.count == 0 || piece.extent.count > piece_pages ||
            !inside(piece.extent, total_pages))
            return fail(fmt::format("extent {} lies outside the pool", i));
        if (dedup && piece.extent.first < last_end)
            return fail(fmt::format("extent {} is not in order", i));
        last_end = piece.extent.first + piece.extent.count;
        pages += piece.extent.count;
        table.pieces.push_back(piece);
    }
    if (pages != data_pages) return fail("extents and number of pages disagree");
    if (!dedup) table.references = data_pages;
    const size_t hashes_at = header + count * piece_bytes;
    for (uint64_t i = 0; i < hashes_bytes / page_hash_bytes; ++i)
        table.page_hashes.push_back(load<uint64_t>(bytes, hashes_at + i * page_hash_bytes));
    return table;
}

}  // namespace memplate::pool
