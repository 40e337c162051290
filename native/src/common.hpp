// What every file of the engine shares: sizes of the layout, the error type, aligned memory, 16-bit floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

namespace empu {

inline constexpr int kLanes = 16;      // rows of a weight tile, and elements of one wide step
inline constexpr int kGroup = 32;      // neighbouring columns that share a scale
inline constexpr int kBlockKeys = 64;  // positions of one block of the key/value cache
inline constexpr int kMostHeadDim = 1024;

inline constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// A sentence for the user; the Python side turns it into an EmpuError.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Weights that are infinite or no numbers.
struct NotFinite : Error {
    using Error::Error;
};

// There is no room for another sequence now; there may be later.
struct NoRoom : Error {
    using Error::Error;
};

// Zeroed memory on a cache-line border; large pieces ask the system for huge pages, without which a walk through many
// megabytes waits for addresses. Throws std::bad_alloc. Parts keep the whole alive.
class Memory {
  public:
    Memory() = default;
    explicit Memory(size_t bytes);
    // All of an open file, read-only, and the same pages for all processes that map it. The file may be closed
    // afterwards but must not become shorter. Throws Error.
    static Memory of_file(int descriptor);
    // Throws Error for a part that does not lie inside, or does not begin on a cache-line border.
    Memory part(size_t offset, size_t bytes) const;
    Memory(Memory&&) noexcept = default;
    Memory& operator=(Memory&&) noexcept = default;
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
    std::shared_ptr<void> owner_;
    bool writable_ = true;
    uint8_t* data_ = nullptr;
    size_t bytes_ = 0;
};

// Many pieces that live as long as each other, end to end, so that they share huge pages.
class Room {
  public:
    Memory take(size_t bytes);

  private:
    Memory chunk_;
    size_t taken_ = 0;
};

}  // namespace empu
