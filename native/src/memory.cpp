#include <cstdlib>
#include <new>
#include <utility>

#include "common.hpp"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace empu {

namespace {
constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    const bool large = bytes >= kHugePage / 2;
    const size_t alignment = large ? kHugePage : kLine;
    if (bytes > SIZE_MAX - alignment) throw std::bad_alloc();
    const size_t whole = (bytes + alignment - 1) / alignment * alignment;
    data_ = static_cast<uint8_t*>(std::aligned_alloc(alignment, whole));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (large) madvise(data_, whole, MADV_HUGEPAGE);
#endif
    std::memset(data_, 0, whole);
}

Memory::~Memory() { std::free(data_); }

Memory::Memory(Memory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

}  // namespace empu
