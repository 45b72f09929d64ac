//! Both formats from fixtures, and the one that this machine has.

use super::*;
use tempfile::TempDir;

const V2_MOUNT: &str =
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
const V1_MOUNT: &str = "35 24 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
     36 24 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";

/// A file system of fixtures: path and content.
fn fixture(files: &[(&str, &str)]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    root
}

#[test]
fn version_2_takes_the_tightest_limit_of_all_ancestors() {
    let root = fixture(&[
        ("proc/self/cgroup", "0::/system.slice/worker.service\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/memory.stat", "anon 1\n"),
        ("sys/fs/cgroup/system.slice/memory.max", "2000000\n"),
        ("sys/fs/cgroup/system.slice/memory.current", "1900000\n"),
        ("sys/fs/cgroup/system.slice/memory.stat", "anon 5\ninactive_file 600000\n"),
        ("sys/fs/cgroup/system.slice/worker.service/memory.max", "max\n"),
        ("sys/fs/cgroup/system.slice/worker.service/memory.high", "3000000\n"),
        ("sys/fs/cgroup/system.slice/worker.service/memory.current", "100000\n"),
        (
            "sys/fs/cgroup/system.slice/worker.service/memory.pressure",
            "some avg10=12.50 avg60=1.00 avg300=0.10 total=5\nfull avg10=0.00 avg60=0.00\n",
        ),
    ]);
    let cgroup = Cgroup::discover(root.path()).unwrap();

    assert_eq!(cgroup.limit_bytes(), Some(2_000_000));
    let fullest = Reading { limit_bytes: 2_000_000, used_bytes: 1_300_000 };
    assert_eq!(cgroup.fullest(), Some(fullest));
    assert_eq!(cgroup.pressure_percent(), Some(12.5));
}

#[test]
fn version_1_reads_its_own_files_and_knows_its_unlimited() {
    let root = fixture(&[
        ("proc/self/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n"),
        ("proc/self/mountinfo", V1_MOUNT),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/memory/memory.usage_in_bytes", "7\n"),
        ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "500000\n"),
        ("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "300000\n"),
        ("sys/fs/cgroup/memory/docker/abc/memory.stat", "cache 1\ntotal_inactive_file 100000\n"),
    ]);
    let cgroup = Cgroup::discover(root.path()).unwrap();

    assert_eq!(cgroup.limit_bytes(), Some(500_000));
    let fullest = Reading { limit_bytes: 500_000, used_bytes: 200_000 };
    assert_eq!(cgroup.fullest(), Some(fullest));
    assert_eq!(cgroup.pressure_percent(), None);
}

#[test]
fn hybrid_machines_have_the_memory_controller_in_version_1() {
    let root = fixture(&[
        ("proc/self/cgroup", "5:memory:/user\n0::/user\n"),
        (
            "proc/self/mountinfo",
            &format!("{V1_MOUNT}40 24 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"),
        ),
        ("sys/fs/cgroup/unified/user/cgroup.procs", "1\n"),
        ("sys/fs/cgroup/memory/user/memory.limit_in_bytes", "1234\n"),
        ("sys/fs/cgroup/memory/user/memory.usage_in_bytes", "1000\n"),
    ]);
    let cgroup = Cgroup::discover(root.path()).unwrap();
    assert_eq!(cgroup.limit_bytes(), Some(1234));
}

#[test]
fn a_container_sees_only_its_part_of_the_hierarchy() {
    let root = fixture(&[
        ("proc/self/cgroup", "0::/docker/abc/inner\n"),
        ("proc/self/mountinfo", "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"),
        ("sys/fs/cgroup/memory.stat", ""),
        ("sys/fs/cgroup/memory.max", "77\n"),
        ("sys/fs/cgroup/inner/memory.max", "max\n"),
    ]);
    assert_eq!(Cgroup::discover(root.path()).unwrap().limit_bytes(), Some(77));

    fs::write(root.path().join("proc/self/cgroup"), "0::/../elsewhere\n").unwrap();
    assert_eq!(Cgroup::discover(root.path()).unwrap().limit_bytes(), Some(77));
}

#[test]
fn limits_are_read_anew_each_time() {
    let root = fixture(&[
        ("proc/self/cgroup", "0::/a\n"),
        ("proc/self/mountinfo", V2_MOUNT),
        ("sys/fs/cgroup/a/memory.stat", ""),
        ("sys/fs/cgroup/a/memory.max", "max\n"),
    ]);
    let cgroup = Cgroup::discover(root.path()).unwrap();
    assert_eq!(cgroup.limit_bytes(), None);

    fs::write(root.path().join("sys/fs/cgroup/a/memory.max"), "99\n").unwrap();
    assert_eq!(cgroup.limit_bytes(), Some(99));
}

#[test]
fn a_machine_without_control_groups_has_none() {
    let root = fixture(&[("proc/self/cgroup", ""), ("proc/self/mountinfo", "")]);
    assert_eq!(Cgroup::discover(root.path()), None);
}

#[test]
fn the_groups_of_this_very_process_can_be_read() {
    // Whatever this machine has, reading it gives limits that make sense, or none.
    let Some(cgroup) = Cgroup::discover(Path::new("/")) else { return };
    assert!(cgroup.levels.iter().any(|level| level.is_dir()), "{cgroup:?}");
    if let Some(fullest) = cgroup.fullest() {
        assert!(fullest.limit_bytes > 0 && fullest.used_bytes > 0, "{fullest:?}");
    }
}
