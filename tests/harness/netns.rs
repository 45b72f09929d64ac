//! A network of its own for one process: a namespace with one cable to this machine, which can be cut
//! or lose packets. Gone when it is dropped, and at the next start what a killed test left.

use crate::{
    privilege::{is_root, run},
    rig::{Rig, by, with_flag},
};
use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

/// How the names of namespaces begin; a process id follows.
const NAME: &str = "mfchaos-";

/// Where `ip netns` keeps them.
const NAMESPACES: &str = "/run/netns";

/// A namespace, and the cable to it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
}

impl Netns {
    /// Makes a namespace, or says why this machine cannot.
    pub fn new() -> Result<Self, String> {
        if !is_root() {
            return Err("a network namespace needs root".to_owned());
        }
        run("nft", &["--version"])?;
        sweep();
        let pid = std::process::id();
        let name = format!("{NAME}{pid}");
        // Of the addresses that providers use inside (100.64.0.0/10, RFC 6598), four for each
        // process id: no network of this machine is likely to have them.
        let net = 0x6440_0000 | ((pid & 0xf_ffff) << 2);
        let netns = Self { name, outside: (net + 1).into(), inside: (net + 2).into() };
        netns.lay_cable()?;
        Ok(netns)
    }

    fn lay_cable(&self) -> Result<(), String> {
        let Self { name, outside, inside } = self;
        let (near, far) = self.ends();
        let ip = |args: &str| run("ip", &args.split(' ').collect::<Vec<_>>());
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {near} type veth peer name {far} netns {name}"))?;
        ip(&format!("addr add {outside}/30 dev {near}"))?;
        ip(&format!("link set {near} up"))?;
        ip(&format!("-n {name} addr add {inside}/30 dev {far}"))?;
        ip(&format!("-n {name} link set {far} up"))?;
        ip(&format!("-n {name} link set lo up"))
    }

    /// The names of the cable's ends: at most 15 bytes.
    fn ends(&self) -> (String, String) {
        let pid = &self.name[NAME.len()..];
        (format!("mf{pid}o"), format!("mf{pid}i"))
    }

    /// This machine's address, as seen from inside.
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// Starts a worker inside.
    pub fn worker(&self) -> Rig {
        let (name, inside) = (self.name.clone(), self.inside);
        Rig::new(move |spec| {
            let spec = with_flag(spec, "--bind", format!("{inside}:0"));
            by(spec, "ip", &["netns", "exec", &name])
        })
    }

    /// Drops every packet, in both directions: nothing is refused, nothing is said.
    pub fn cut(&self) {
        self.drop_if("");
    }

    /// Drops every packet to a port inside, and no other: what is asked from inside is answered.
    pub fn cut_port(&self, port: u16) {
        self.filter(&format!(
            "chain in {{ type filter hook input priority 0\n iif != lo tcp dport {port} drop\n }}"
        ));
    }

    /// Drops packets at random, in both directions.
    pub fn lose(&self, percent: u32) {
        self.drop_if(&format!("numgen random mod 100 < {percent} "));
    }

    /// Lets all through again.
    pub fn heal(&self) {
        self.filter("");
    }

    fn drop_if(&self, condition: &str) {
        self.filter(&format!(
            "chain in {{ type filter hook input priority 0\n iif != lo {condition}drop\n }}\n \
             chain out {{ type filter hook output priority 0\n oif != lo {condition}drop\n }}"
        ));
    }

    /// Sets the rules inside. This machine's own are not touched.
    fn filter(&self, chains: &str) {
        let rules = format!(
            "table inet chaos\ndelete table inet chaos\ntable inet chaos {{\n{chains}\n}}\n"
        );
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.name, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("`ip` ran before");
        let mut stdin = nft.stdin.take().expect("it is piped");
        stdin.write_all(rules.as_bytes()).expect("nft reads its rules");
        drop(stdin);
        assert!(nft.wait().expect("a child can be waited for").success(), "nft refused: {rules}");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes a namespace; its cable goes with it, at the latest with the last process inside. The near
/// end is named, too, because processes of a failed test may still be there.
fn remove(name: &str) {
    // What is not there need not be removed.
    let _ = run("ip", &["link", "del", &format!("mf{}o", &name[NAME.len()..])]);
    let _ = run("ip", &["netns", "del", name]);
}

/// Removes what killed tests left.
fn sweep() {
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(NAME);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}
