// What every file of the engine shares: sizes of the layout, the error type, aligned memory, 16-bit floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace empu {

inline constexpr int kLanes = 16;      // rows of a weight tile, and elements of one wide step
inline constexpr int kGroup = 32;      // neighbouring columns that share a scale
inline constexpr int kBlockKeys = 64;  // positions of one block of the key/value cache

inline constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// A sentence for the user; the Python side turns it into an EmpuError.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Zeroed memory on a cache-line border; large pieces ask the system for huge pages. Throws std::bad_alloc.
class Memory {
  public:
    Memory() = default;
    explicit Memory(size_t bytes);
    // `bytes` of an open file from `offset` on, which must be whole cache lines; read-only, and the same pages for all
    // processes that map them. The file may be closed afterwards but must not become shorter. Throws Error.
    static Memory of_file(int descriptor, size_t offset, size_t bytes);
    ~Memory();
    Memory(Memory&& other) noexcept;
    Memory& operator=(Memory&& other) noexcept;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    size_t size() const { return bytes_; }
    bool is_writable() const { return writable_; }
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
    void* base_ = nullptr;
    size_t mapped_ = 0;  // bytes at `base_` if it is a mapping of its own
    bool writable_ = true;
    uint8_t* data_ = nullptr;
    size_t bytes_ = 0;
};

}  // namespace empu
