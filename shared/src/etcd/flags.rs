//! The flags that say how etcd is reached: the same in each program but for the start of their environment
//! variables.

use super::{Access, ClusterAddress};
use clap::{Arg, Args};
use std::path::PathBuf;

/// How the environment variables start before a program's name is put in front of them.
const UNNAMED: &str = "CLUSTER_";

/// What comes with the cluster's address. A program that flattens it has [`AccessFlags::of_program`] go over
/// its flags.
#[derive(Clone, Debug, Args)]
pub struct AccessFlags {
    /// PEM file with the authority that signed etcd's certificate. Files are read at every connection.
    #[arg(long, env = "CLUSTER_CA")]
    pub cluster_ca: Option<PathBuf>,

    /// PEM file with the certificate that etcd is shown.
    #[arg(long, env = "CLUSTER_CERT")]
    pub cluster_cert: Option<PathBuf>,

    /// PEM file with its key.
    #[arg(long, env = "CLUSTER_KEY")]
    pub cluster_key: Option<PathBuf>,

    /// The user that etcd knows.
    #[arg(long, env = "CLUSTER_USER")]
    pub cluster_user: Option<String>,

    /// File with the user's password, in its first line.
    #[arg(long, env = "CLUSTER_PASSWORD_FILE")]
    pub cluster_password_file: Option<PathBuf>,
}

impl AccessFlags {
    /// Names a flag's environment variable after a program: of `ROUTER`, `CLUSTER_CA` becomes
    /// `ROUTER_CLUSTER_CA`. Every other flag stays as it is.
    pub fn of_program(program: &str, flag: Arg) -> Arg {
        let unnamed = flag.get_env().and_then(|it| it.to_str());
        match unnamed.filter(|it| it.starts_with(UNNAMED)) {
            Some(variable) => {
                let named = format!("{program}_{variable}");
                flag.env(named)
            }
            None => flag,
        }
    }

    /// Returns how the cluster at an address is reached.
    pub fn to(&self, address: ClusterAddress) -> Access {
        let Self { cluster_ca, cluster_cert, cluster_key, cluster_user, cluster_password_file } =
            self.clone();
        Access {
            address,
            ca: cluster_ca,
            certificate: cluster_cert,
            key: cluster_key,
            user: cluster_user,
            password_file: cluster_password_file,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn every_variable_is_named_after_the_program_and_no_other_is_touched() {
        let other = Arg::new("other").env("OTHER_CLUSTER_CA");
        let command = AccessFlags::augment_args(Command::new("router").arg(other));
        let command = command.mut_args(|flag| AccessFlags::of_program("ROUTER", flag));
        let variables = command.get_arguments().filter_map(|it| it.get_env()?.to_str());
        let expected = [
            "OTHER_CLUSTER_CA",
            "ROUTER_CLUSTER_CA",
            "ROUTER_CLUSTER_CERT",
            "ROUTER_CLUSTER_KEY",
            "ROUTER_CLUSTER_USER",
            "ROUTER_CLUSTER_PASSWORD_FILE",
        ];
        assert_eq!(variables.collect::<Vec<_>>(), expected);
    }
}
