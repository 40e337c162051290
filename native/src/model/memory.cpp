#include "model/memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "error.hpp"
#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <sys/stat.h>
#define EMPU_HAS_MMAP 1
#endif

namespace empu {

namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kArenaChunk = size_t{64} << 20;  // pages that are never touched take no memory

#if defined(EMPU_HAS_MMAP)
std::shared_ptr<void> own_mapping(void* base, size_t bytes) {
    return {base, [bytes](void* mapped) { munmap(mapped, bytes); }};
}
#endif

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kHugePage / 2) {  // new pages are zero
        void* base = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) throw std::bad_alloc();
        owner_ = own_mapping(base, bytes + kHugePage);
        data_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(base) + kHugePage - 1) / kHugePage * kHugePage);
        madvise(data_, bytes, MADV_HUGEPAGE);
        return;
    }
#endif
    const size_t rounded = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    data_ = static_cast<uint8_t*>(std::aligned_alloc(kCacheLine, rounded));
    if (!data_) throw std::bad_alloc();
    owner_ = {data_, std::free};
    std::memset(data_, 0, rounded);
}

Memory Memory::map_file(int descriptor) {
#if defined(EMPU_HAS_MMAP)
    struct stat status;
    if (fstat(descriptor, &status) != 0 || status.st_size <= 0) throw Error("The file cannot be mapped: it is empty.");
    const size_t bytes = size_t(status.st_size);
    void* base = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (base == MAP_FAILED) throw Error("The file cannot be mapped.");
    Memory memory;
    memory.owner_ = own_mapping(base, bytes);
    memory.is_writable_ = false;
    memory.data_ = static_cast<uint8_t*>(base);
    memory.bytes_ = bytes;
#if defined(MADV_HUGEPAGE)
    madvise(base, bytes, MADV_HUGEPAGE);  // before the first page is read, which decides the page size
#endif
#if defined(MADV_POPULATE_READ)
    if (madvise(base, bytes, MADV_POPULATE_READ) == 0) return memory;
#endif
    madvise(base, bytes, MADV_WILLNEED);
    return memory;
#else
    throw Error("Files cannot be mapped on this system.");
#endif
}

Memory Memory::slice(size_t offset, size_t bytes) const {
    if (offset % kCacheLine != 0 || bytes == 0 || offset > bytes_ || bytes > bytes_ - offset) {
        throw Error("The slice is outside the memory or not aligned to a cache line.");
    }
    Memory slice;
    slice.owner_ = owner_;
    slice.is_writable_ = is_writable_;
    slice.data_ = data_ + offset;
    slice.bytes_ = bytes;
    return slice;
}

Memory Arena::allocate(size_t bytes) {
    const size_t rounded = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    if (rounded > chunk_.size() - used_) {
        chunk_ = Memory(std::max(rounded, kArenaChunk));
        used_ = 0;
    }
    Memory piece = chunk_.slice(used_, bytes);
    used_ += rounded;
    return piece;
}

}  // namespace empu
