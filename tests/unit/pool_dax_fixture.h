// SPDX-License-Identifier: Apache-2.0
//
// The medium `dax` without a device: over an ordinary file that is full of other data, as used
// memory is.
#pragma once

#include <sys/mman.h>

#include "pool/dax_medium.h"
#include "pool/lease.h"
#include "pool_fixture.h"

namespace memplate::pool::test {

class PoolDaxTest : public PoolTest {
  protected:
    /// The next "device", a file at path_.
    void make_device(uint64_t bytes = uint64_t{4} << 20) const {
        UniqueFd fd = must(open_at(AT_FDCWD, path_, O_RDWR | O_CREAT | O_TRUNC, 0600));
        must(pwrite_all(fd.get(), pattern(bytes / page_size, 4711), 0));
    }

    [[nodiscard]] std::shared_ptr<DaxMedium> device(OpenMode mode = OpenMode::read_write) const {
        UniqueFd fd =
            must(open_at(AT_FDCWD, path_, mode == OpenMode::read_write ? O_RDWR : O_RDONLY));
        const uint64_t bytes = must(file_size(fd.get()));
        return must(DaxMedium::over(std::move(fd), path_, mode, bytes));
    }

    [[nodiscard]] Pool create_on_device(uint64_t bytes = uint64_t{4} << 20) const {
        make_device(bytes);
        CreateOptions options;
        options.force = true;  // over the other data
        return must(Pool::create_on(device(), options));
    }

    [[nodiscard]] Pool open_device(OpenMode mode = OpenMode::read_only) const {
        return must(Pool::open(device(mode)));
    }

    /// A lease block as a writer on another host writes it.
    static LeaseBlock lease_of_other_host(uint64_t epoch, bool held = true) {
        LeaseBlock lease = own_lease(epoch, "memplate template build");
        lease.boot_id[0] ^= 0xff;
        lease.host = "node7";
        lease.held = held;
        return lease;
    }

    static GcOptions no_other_hosts() {
        GcOptions options;
        options.no_other_hosts = true;
        return options;
    }
};

/// Adds a template of these pages with add_pages(); the manifest is where they are.
inline TemplateRecord add_pages(Writer& writer, const std::string& name, const std::string& domain,
                                std::span<const std::byte> data) {
    must(writer.begin(name, domain));
    std::string manifest;
    for (const PageExtent& extent : must(writer.add_pages(data)))
        manifest += fmt::format("{} {}\n", extent.first, extent.count);
    return must(writer.commit(manifest, false));
}

}  // namespace memplate::pool::test
