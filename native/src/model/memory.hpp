// Aligned memory, mapped files and an arena.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace empu {

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
