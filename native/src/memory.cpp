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
    if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kHugePage / 2) {  // fresh pages are zero
        mapped_ = bytes + kHugePage;
        base_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base_ == MAP_FAILED) throw std::bad_alloc();
        data_ =
            reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(base_) + kHugePage - 1) / kHugePage * kHugePage);
        madvise(data_, bytes, MADV_HUGEPAGE);
        return;
    }
#endif
    const size_t whole = (bytes + kLine - 1) / kLine * kLine;
    base_ = std::aligned_alloc(kLine, whole);
    if (!base_) throw std::bad_alloc();
    data_ = static_cast<uint8_t*>(base_);
    std::memset(data_, 0, whole);
}

Memory::~Memory() {
#if defined(__linux__)
    if (mapped_ != 0) {
        munmap(base_, mapped_);
        return;
    }
#endif
    std::free(base_);
}

Memory::Memory(Memory&& other) noexcept { *this = std::move(other); }

Memory& Memory::operator=(Memory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(mapped_, other.mapped_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

}  // namespace empu
