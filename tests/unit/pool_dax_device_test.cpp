// SPDX-License-Identifier: Apache-2.0
//
// Which devices can carry a pool, and what is said about the others.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "pool/dax_device.h"
#include "pool/reference.h"
#include "pool_fixture.h"

namespace memplate::pool {
namespace {

using namespace test;
using ::testing::HasSubstr;

DaxDevice sample() {
    DaxDevice device;
    device.name = "dax0.0";
    device.bytes = uint64_t{512} << 20;
    device.alignment = page_size;
    device.name_space = "namespace0.0";
    return device;
}

/// A device as CXL volatile memory and soft-reserved memory give it.
DaxDevice volatile_sample() {
    DaxDevice device = sample();
    device.name_space = "";
    device.alignment = uint64_t{2} << 20;
    return device;
}

std::string refusal(const DaxDevice& device) {
    const auto checked = check_dax_device(device);
    EXPECT_TRUE(checked || checked.error().kind == ErrorKind::unsupported);
    return error_of(checked);
}

class FakeInventory : public DaxInventory {
  public:
    explicit FakeInventory(std::vector<DaxDevice> devices) : devices_(std::move(devices)) {}
    [[nodiscard]] Result<std::vector<DaxDevice>> devices() const override { return devices_; }

  private:
    std::vector<DaxDevice> devices_;
};

TEST(PoolDaxDevice, BothAlignmentsAreFine) {
    EXPECT_TRUE(check_dax_device(sample()).has_value());
    EXPECT_TRUE(check_dax_device(volatile_sample()).has_value());
}

TEST(PoolDaxDevice, PageStructuresMustNotLieOnTheDevice) {
    DaxDevice device = sample();
    device.map = DaxDevice::Map::device;
    EXPECT_EQ(refusal(device),
              "dax0.0: the kernel keeps its page structures on the device itself, where hosts that "
              "share it overwrite each other's (--map=dev); `ndctl create-namespace -f -e "
              "namespace0.0 -m devdax -a 4096 -M mem` keeps them in memory (and destroys what the "
              "namespace holds)");
    device.map = DaxDevice::Map::unknown;
    device.alignment = uint64_t{2} << 20;
    EXPECT_THAT(refusal(device), HasSubstr("-a 2097152 -M mem`"));
    device.name_space = "";
    EXPECT_THAT(refusal(device), HasSubstr("check that /sys is mounted"));
}

TEST(PoolDaxDevice, TheModeMustBeDevdax) {
    DaxDevice device = volatile_sample();
    device.mode = DaxDevice::Mode::system_ram;
    EXPECT_EQ(
        refusal(device),
        "dax0.0: the device serves as system memory; `daxctl reconfigure-device --mode=devdax "
        "dax0.0 --force` takes it back");
    device.mode = DaxDevice::Mode::disabled;
    EXPECT_EQ(refusal(device),
              "dax0.0: the device is disabled; `daxctl reconfigure-device --mode=devdax dax0.0` "
              "enables it");
}

TEST(PoolDaxDevice, OtherAlignmentsAndTinyDevicesAreRefused) {
    DaxDevice device = sample();
    device.alignment = uint64_t{1} << 30;
    EXPECT_THAT(refusal(device), HasSubstr("its alignment is 1 GiB, a pool needs 4 KiB or 2 MiB; "
                                           "`ndctl create-namespace -f -e namespace0.0"));
    device.name_space = "";
    EXPECT_THAT(refusal(device),
                HasSubstr("`daxctl reconfigure-device --mode=devdax --align=2097152 dax0.0`"));
    device = sample();
    device.bytes = 65536;
    EXPECT_EQ(refusal(device), "dax0.0: the device has 64 KiB, a pool at least 1 MiB");
}

TEST(PoolDaxDevice, IsFoundByItsNodeOrItsName) {
    struct stat null{};
    ASSERT_EQ(::stat("/dev/null", &null), 0);
    DaxDevice device = sample();
    device.major = ::major(null.st_rdev);
    device.minor = ::minor(null.st_rdev);
    DaxDevice other = volatile_sample();
    other.name = "dax7.0";
    const FakeInventory inventory({other, device});
    EXPECT_EQ(must(find_dax_device(inventory, "/dev/null")).name, "dax0.0");
    // Without a driver a device has no node.
    EXPECT_EQ(must(find_dax_device(inventory, "/dev/dax7.0")).name, "dax7.0");
    EXPECT_EQ(error_of(find_dax_device(inventory, "/dev/zero")),
              "/dev/zero: is not a device DAX device; `daxctl list` shows those there are");
    EXPECT_EQ(error_of(find_dax_device(inventory, "/dev/dax8.0")),
              "/dev/dax8.0: no such device; `daxctl list` shows those there are, `ndctl list -Ni` "
              "the namespaces that could become one, `modprobe -a device_dax dax_pmem dax_hmem "
              "dax_cxl` loads their drivers");
    EXPECT_EQ(error_of(find_dax_device(inventory, "/etc/passwd")),
              "/etc/passwd: is not a device; give a device DAX node such as /dev/dax0.0, or omit "
              "--dax for a pool in a file");
}

TEST(PoolDaxDevice, TheHostsOwnDevicesCanBeListed) {
    EXPECT_TRUE(SystemDaxInventory().devices().has_value());
}

class PoolMapLocation : public PoolTest {
  protected:
    void region(const std::string& bus, const std::string& mode) const {
        std::filesystem::remove(directory_.path() + "/subsystem");
        std::filesystem::remove(directory_.path() + "/mode");
        std::filesystem::create_symlink("../../../../bus/" + bus, directory_.path() + "/subsystem");
        if (!mode.empty()) std::ofstream(directory_.path() + "/mode") << mode << "\n";
    }
    [[nodiscard]] DaxDevice::Map location() const { return map_location(directory_.path()); }
};

TEST_F(PoolMapLocation, IsWhatLibnvdimmSaysAndElseMemory) {
    region("nd", "ram");
    EXPECT_EQ(location(), DaxDevice::Map::memory);
    region("nd", "pmem");
    EXPECT_EQ(location(), DaxDevice::Map::device);
    region("nd", "none");
    EXPECT_EQ(location(), DaxDevice::Map::unknown);
    region("nd", "");
    EXPECT_EQ(location(), DaxDevice::Map::unknown);
    region("platform", "");
    EXPECT_EQ(location(), DaxDevice::Map::memory);
    region("cxl", "ram");
    EXPECT_EQ(location(), DaxDevice::Map::memory);
    EXPECT_EQ(map_location("/nonexistent"), DaxDevice::Map::unknown);
}

using PoolReferenceTest = PoolTest;

TEST_F(PoolReferenceTest, SurvivesARoundTripAndNothingElseIsOne) {
    const PoolReference reference{"/dev/dax0.0", "00112233-4455-6677-8899-aabbccddeeff"};
    const std::string text = format_reference(reference);
    EXPECT_EQ(text,
              "memplate pool reference\ndevice /dev/dax0.0\nuuid "
              "00112233-4455-6677-8899-aabbccddeeff\n");
    EXPECT_EQ(parse_reference(text), reference);
    EXPECT_FALSE(parse_reference(text + "\n"));
    EXPECT_FALSE(parse_reference(text.substr(1)));
    EXPECT_FALSE(parse_reference(text.substr(0, text.size() - 2) + "\n"));
    EXPECT_FALSE(parse_reference("memplate pool reference\ndevice dax0.0\nuuid x\n"));
    EXPECT_FALSE(parse_reference(""));
}

TEST_F(PoolReferenceTest, ToAPoolThatIsGoneSaysSo) {
    const PoolReference reference{"/dev/dax-no-such-device",
                                  "00112233-4455-6677-8899-aabbccddeeff"};
    std::ofstream(path_) << format_reference(reference);
    EXPECT_TRUE(Pool::is_pool(path_));
    const auto opened = Pool::open(path_);
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error().code, ENOENT);
    EXPECT_EQ(opened.error().message,
              path_ +
                  ": stands for the pool 00112233-4455-6677-8899-aabbccddeeff that was on "
                  "/dev/dax-no-such-device, and no device of this host holds it now; `daxctl "
                  "list -Di` shows them. If the pool is gone, remove the file");
    EXPECT_THAT(error_of(Pool::create_on_device("/dev/dax0.0", path_)),
                HasSubstr("exists already"));
}

TEST_F(PoolReferenceTest, DevicesOfOtherKindsAreNotOpenedWhenListing) {
    EXPECT_FALSE(Pool::is_pool("/dev/zero"));
    EXPECT_FALSE(Pool::is_pool(directory_.path()));
}

}  // namespace
}  // namespace memplate::pool
