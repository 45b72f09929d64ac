//! The memory limits of the control groups that this process is in.
//!
//! A machine may have version 2, version 1, or both (hybrid: the memory controller is then in one
//! of them). Limits hold for a group and all below it, so every ancestor counts. Sources: Linux
//! kernel documentation, "Control Group v2" and "Memory Resource Controller" (v1); `proc_pid_mountinfo(5)`.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Version 1 says "no limit" with the largest page-aligned number; anything near it is none.
const V1_UNLIMITED: u64 = 1 << 60;

/// The groups of this process that may limit its memory, itself first, the root last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    version: Version,
    levels: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One group's limit and what counts against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub limit_bytes: u64,
    /// Without file pages that the kernel drops before it kills.
    pub used_bytes: u64,
}

impl Reading {
    pub fn free_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }
}

impl Cgroup {
    /// Finds the groups of this process. `root` is `/`, or a folder of fixtures.
    pub fn discover(root: &Path) -> Option<Self> {
        let membership = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        [Version::V2, Version::V1].into_iter().find_map(|version| {
            let path = group_path(&membership, version)?;
            let (mount_root, mount_point) = mount(&mounts, version)?;
            let levels = levels(root, path, mount_root, mount_point);
            let cgroup = Self { version, levels };
            cgroup.has_memory_controller().then_some(cgroup)
        })
    }

    /// Returns the tightest limit of all levels, read anew. `None` if nothing is limited.
    pub fn limit_bytes(&self) -> Option<u64> {
        self.levels.iter().filter_map(|level| self.limit(level)).min()
    }

    /// Returns the level that will be full first, read anew. `None` if nothing is limited.
    pub fn fullest(&self) -> Option<Reading> {
        let readings = self.levels.iter().filter_map(|level| {
            let limit_bytes = self.limit(level)?;
            Some(Reading { limit_bytes, used_bytes: self.used(level)? })
        });
        readings.min_by_key(Reading::free_bytes)
    }

    /// Returns the share of the last 10 s in which some task of this group waited for memory,
    /// percent. `None` where the kernel has no pressure information.
    pub fn pressure_percent(&self) -> Option<f64> {
        let text = fs::read_to_string(self.levels.first()?.join("memory.pressure")).ok()?;
        parse_pressure(&text)
    }

    fn has_memory_controller(&self) -> bool {
        let file = match self.version {
            // The root group of version 2 has no `memory.max`, but every other one has.
            Version::V2 => "memory.stat",
            Version::V1 => "memory.limit_in_bytes",
        };
        self.levels.iter().any(|level| level.join(file).is_file())
    }

    fn limit(&self, level: &Path) -> Option<u64> {
        match self.version {
            // Above `memory.high` the kernel throttles: a limit too, for those who plan.
            Version::V2 => {
                let limits = ["memory.max", "memory.high"];
                limits.iter().filter_map(|file| read_number(&level.join(file))).min()
            }
            Version::V1 => {
                read_number(&level.join("memory.limit_in_bytes")).filter(|it| *it < V1_UNLIMITED)
            }
        }
    }

    fn used(&self, level: &Path) -> Option<u64> {
        let (usage, reclaimable) = match self.version {
            Version::V2 => ("memory.current", "inactive_file"),
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
        };
        let used = read_number(&level.join(usage))?;
        let stat = fs::read_to_string(level.join("memory.stat")).unwrap_or_default();
        Some(used.saturating_sub(stat_value(&stat, reclaimable).unwrap_or(0)))
    }
}

/// Finds the process's path in `/proc/self/cgroup`: `0::/path` or `7:memory:/path`.
fn group_path(membership: &str, version: Version) -> Option<&str> {
    membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match version {
            Version::V2 => hierarchy == "0" && controllers.is_empty(),
            Version::V1 => controllers.split(',').any(|it| it == "memory"),
        };
        matches.then_some(path)
    })
}

/// Finds which part of the hierarchy is mounted, and where, in `/proc/self/mountinfo`.
fn mount(mounts: &str, version: Version) -> Option<(&str, &str)> {
    mounts.lines().find_map(|line| {
        // ID PARENT MAJOR:MINOR ROOT MOUNT_POINT OPTIONS … - TYPE SOURCE SUPER_OPTIONS
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (mount_root, mount_point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, super_options) = (right.next()?, right.nth(1)?);
        let matches = match version {
            Version::V2 => kind == "cgroup2",
            Version::V1 => kind == "cgroup" && super_options.split(',').any(|it| it == "memory"),
        };
        matches.then_some((mount_root, mount_point))
    })
}

/// Lists the folders of the process's group and its visible ancestors.
///
/// In a container the mount shows only a part of the hierarchy (`mount_root`); a path outside of
/// that part leaves just the mount point itself.
fn levels(root: &Path, path: &str, mount_root: &str, mount_point: &str) -> Vec<PathBuf> {
    let top = root.join(mount_point.trim_start_matches('/'));
    let below = Path::new(path).strip_prefix(mount_root).unwrap_or(Path::new(""));
    let climbs = below.components().any(|it| it == std::path::Component::ParentDir);
    let below = if climbs { Path::new("") } else { below };
    below.ancestors().map(|it| top.join(it)).collect()
}

/// Reads a number; `max`, an absent file and anything else are none.
fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn stat_value(stat: &str, key: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Parses `some avg10=1.23 avg60=…` (kernel documentation, "PSI").
fn parse_pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|field| field.strip_prefix("avg10=")?.parse().ok())
}

#[cfg(test)]
mod tests;
