// SPDX-License-Identifier: Apache-2.0
//
// Memory of the fake GPU: files in the state folder, so that processes can share it and NVML's
// stand-in can count it. A file belongs to its process and counts no more once that is dead.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace fake_gpu {

/// The number of this process among all that use the folder, whatever pid namespaces they are in:
/// it holds a lock on the file "owner.NUMBER" for as long as it lives.
int owner_number();
/// The process lets go of everything in the folder; the next block makes it another owner.
void forget_owner();

/// Bytes in use on a device, by process; pid 0: those that are not seen from our pid namespace.
std::map<pid_t, uint64_t> usage(int device);

/// This process is a client of an MPS daemon: there is one in its pipe folder.
bool is_mps_client();
/// The processes on a device that are such clients.
std::set<pid_t> mps_clients(int device);
inline constexpr const char* mps_context = "mps-context";  ///< kind of a client's context

/// A file of that size for this process ("DEVICE.OWNER.NUMBER.KIND"); empty if the device is full.
std::string create_block(int device, uint64_t bytes, const char* kind);
/// Maps a block, at `wanted` if given; the address serves as device pointer. Null on failure.
void* map_block(const std::string& name, uint64_t* bytes, void* wanted = nullptr);
void remove_block(const std::string& name);
/// 0 for one that is gone.
uint64_t block_size(const std::string& name);

}  // namespace fake_gpu
