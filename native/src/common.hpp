// What every file of the engine shares: sizes of the layout, error types, aligned memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

namespace empu {

inline constexpr int kLanes = 16;      // rows of a weight tile; elements of one SIMD step
inline constexpr int kGroupSize = 32;  // neighbouring columns that share a scale
inline constexpr int kBlockKeys = 64;  // positions in one block of the KV cache
inline constexpr int kMaxHeadDim = 1024;

inline constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// A message for the user; the Python side turns it into an EmpuError.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Weights are infinite or NaN.
struct NotFiniteError : Error {
    using Error::Error;
};

// The KV cache has no space for another sequence now, but may have later.
struct CacheFullError : Error {
    using Error::Error;
};

// Zeroed memory, aligned to a cache line, or a mapped file. Large pieces ask the system for huge pages, without which
// reading many megabytes is slowed by TLB misses. Slices keep the whole alive. The constructor throws std::bad_alloc.
class Memory {
  public:
    Memory() = default;
    explicit Memory(size_t bytes);
    // Map a whole open file read-only; processes that map it share its pages. The file may be closed afterwards but
    // must not become shorter. Throws Error.
    static Memory map_file(int descriptor);
    // Throws Error if the slice is not inside the memory or does not start on a cache line.
    Memory slice(size_t offset, size_t bytes) const;
    Memory(Memory&&) noexcept = default;
    Memory& operator=(Memory&&) noexcept = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    size_t size() const { return bytes_; }
    bool is_writable() const { return is_writable_; }
    uint8_t* bytes() { return data_; }
    const uint8_t* bytes() const { return data_; }
    template <typename T>
    T* as() {
        return reinterpret_cast<T*>(data_);
    }
    template <typename T>
    const T* as() const {
        return reinterpret_cast<const T*>(data_);
    }

  private:
    std::shared_ptr<void> owner_;
    bool is_writable_ = true;
    uint8_t* data_ = nullptr;
    size_t bytes_ = 0;
};

// Allocator for many pieces with one lifetime; they lie end to end and so share huge pages.
class Arena {
  public:
    Memory allocate(size_t bytes);

  private:
    Memory chunk_;
    size_t used_ = 0;
};

}  // namespace empu
