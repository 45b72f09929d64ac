//! How much memory there is, how much is used, and how it is given back.

pub mod allocator;
pub mod cgroup;
pub mod probe;
