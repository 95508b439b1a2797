"""
Counts what Python asks of its allocators. There is no such figure in Python, so a few lines of C are compiled for it.

What comes from a free list (small tuples, floats, frames) is not asked of an allocator, and costs next to nothing.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["counter", "why_not"]

SOURCE = r"""
#include <stddef.h>
#include <stdatomic.h>

typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t number, size_t size);
    void *(*realloc)(void *ctx, void *place, size_t size);
    void (*free)(void *ctx, void *place);
} Allocator;

extern void PyMem_GetAllocator(int domain, Allocator *allocator);
extern void PyMem_SetAllocator(int domain, Allocator *allocator);

static Allocator before[3];
static atomic_ullong counted;

static void *count_malloc(void *ctx, size_t size) {
    Allocator *allocator = ctx;
    atomic_fetch_add_explicit(&counted, 1, memory_order_relaxed);
    return allocator->malloc(allocator->ctx, size);
}
static void *count_calloc(void *ctx, size_t number, size_t size) {
    Allocator *allocator = ctx;
    atomic_fetch_add_explicit(&counted, 1, memory_order_relaxed);
    return allocator->calloc(allocator->ctx, number, size);
}
static void *count_realloc(void *ctx, void *place, size_t size) {
    Allocator *allocator = ctx;
    atomic_fetch_add_explicit(&counted, 1, memory_order_relaxed);
    return allocator->realloc(allocator->ctx, place, size);
}
static void give_back(void *ctx, void *place) {
    Allocator *allocator = ctx;
    allocator->free(allocator->ctx, place);
}
void install(void) {
    for (int domain = 1; domain < 3; domain++) {  /* PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ */
        PyMem_GetAllocator(domain, &before[domain]);
        Allocator counting = {&before[domain], count_malloc, count_calloc, count_realloc, give_back};
        PyMem_SetAllocator(domain, &counting);
    }
}
unsigned long long count(void) { return atomic_load_explicit(&counted, memory_order_relaxed); }
"""


def why_not() -> str:
    """Return why allocations cannot be counted here; empty if they can."""
    return "" if shutil.which("cc") else "there is no C compiler (cc) to build the counter with"


def counter() -> Callable[[], int]:
    """Start counting, and return a function that returns the number of allocations."""
    with tempfile.TemporaryDirectory() as directory:
        source, built = Path(directory, "counter.c"), Path(directory, "counter.so")
        source.write_text(SOURCE)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", built, source], check=True)
        library = ctypes.PyDLL(str(built))
    library.count.restype = ctypes.c_ulonglong
    library.install()
    count: Callable[[], int] = library.count
    return count
