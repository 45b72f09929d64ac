//! The process's allocator, and how it is set.
//!
//! Most of an invocation's own time in the router is headers and buffers: jemalloc is faster at them
//! than the system's allocator, and the worker needs it anyway ([ADR 0003](../../docs/adr/0003-jemalloc.md)).
//! This is the router's only file with `unsafe`: jemalloc finds its settings by the name of a symbol.

#![expect(unsafe_code, reason = "jemalloc's settings are a symbol of C")]

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A thread keeps more of what it freed, and gives it back less often: an invocation's maps of headers
/// are of sizes of which jemalloc otherwise keeps a handful, and dozens are in flight on each thread.
// SAFETY: jemalloc declares `const char *malloc_conf` and only reads it: a thin pointer to a string
// with a NUL at its end, which is what a reference to an array of bytes is. Nothing else has this name.
#[unsafe(export_name = "malloc_conf")]
#[used]
static SETTINGS: &[u8; 80] =
    b"tcache_gc_incr_bytes:16777216,tcache_nslots_small_min:64,lg_tcache_nslots_mul:2\0";
