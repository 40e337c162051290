#include <algorithm>
#include <cstdlib>
#include <new>

#include "common.hpp"
#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <sys/stat.h>
#define EMPU_MAPS 1
#endif

namespace empu {

namespace {

constexpr size_t kLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunk = size_t{64} << 20;  // of a Room; what nobody touches of it is not there

#if defined(EMPU_MAPS)
std::shared_ptr<void> owned(void* base, size_t bytes) {
    return {base, [bytes](void* mapped) { munmap(mapped, bytes); }};
}
#endif

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kHugePage / 2) {  // fresh pages are zero
        void* base = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) throw std::bad_alloc();
        owner_ = owned(base, bytes + kHugePage);
        data_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(base) + kHugePage - 1) / kHugePage * kHugePage);
        madvise(data_, bytes, MADV_HUGEPAGE);
        return;
    }
#endif
    const size_t whole = (bytes + kLine - 1) / kLine * kLine;
    data_ = static_cast<uint8_t*>(std::aligned_alloc(kLine, whole));
    if (!data_) throw std::bad_alloc();
    owner_ = {data_, std::free};
    std::memset(data_, 0, whole);
}

Memory Memory::of_file(int descriptor) {
#if defined(EMPU_MAPS)
    struct stat found;
    if (fstat(descriptor, &found) != 0 || found.st_size <= 0) throw Error("The file cannot be mapped: it is empty.");
    const size_t bytes = size_t(found.st_size);
    void* base = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (base == MAP_FAILED) throw Error("The file cannot be mapped.");
    Memory memory;
    memory.owner_ = owned(base, bytes);
    memory.writable_ = false;
    memory.data_ = static_cast<uint8_t*>(base);
    memory.bytes_ = bytes;
#if defined(MADV_HUGEPAGE)
    madvise(base, bytes, MADV_HUGEPAGE);  // before the first page is read, which decides how large they are
#endif
#if defined(MADV_POPULATE_READ)
    if (madvise(base, bytes, MADV_POPULATE_READ) == 0) return memory;
#endif
    madvise(base, bytes, MADV_WILLNEED);
    return memory;
#else
    throw Error("This system maps no files.");
#endif
}

Memory Memory::part(size_t offset, size_t bytes) const {
    if (offset % kLine != 0 || bytes == 0 || offset > bytes_ || bytes > bytes_ - offset) {
        throw Error("There is no such part of the memory.");
    }
    Memory part;
    part.owner_ = owner_;
    part.writable_ = writable_;
    part.data_ = data_ + offset;
    part.bytes_ = bytes;
    return part;
}

Memory Room::take(size_t bytes) {
    const size_t whole = (bytes + kLine - 1) / kLine * kLine;
    if (whole > chunk_.size() - taken_) {
        chunk_ = Memory(std::max(whole, kChunk));
        taken_ = 0;
    }
    Memory piece = chunk_.part(taken_, bytes);
    taken_ += whole;
    return piece;
}

}  // namespace empu
