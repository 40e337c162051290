#include <cstdlib>
#include <new>
#include <utility>

#include "common.hpp"
#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define EMPU_MAPS 1
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

Memory Memory::of_file(int descriptor, size_t offset, size_t bytes) {
#if defined(EMPU_MAPS)
    struct stat found;
    if (fstat(descriptor, &found) != 0 || offset % kLine != 0 || bytes == 0 || found.st_size < 0 ||
        offset > size_t(found.st_size) || bytes > size_t(found.st_size) - offset) {
        throw Error("The file of packed weights has no such part.");
    }
    const size_t begin = offset / size_t(sysconf(_SC_PAGESIZE)) * size_t(sysconf(_SC_PAGESIZE));
    const size_t mapped = offset - begin + bytes;
    void* base = mmap(nullptr, mapped, PROT_READ, MAP_SHARED, descriptor, off_t(begin));
    if (base == MAP_FAILED) throw Error("The file of packed weights cannot be mapped.");
    madvise(base, mapped, MADV_WILLNEED);
    Memory memory;
    memory.base_ = base;
    memory.mapped_ = mapped;
    memory.writable_ = false;
    memory.data_ = static_cast<uint8_t*>(base) + (offset - begin);
    memory.bytes_ = bytes;
    return memory;
#else
    throw Error("This system maps no files.");
#endif
}

Memory::~Memory() {
#if defined(EMPU_MAPS)
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
    std::swap(writable_, other.writable_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

}  // namespace empu
