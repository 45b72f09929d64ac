//! Lets the linked programs find LibTorch by themselves, with no environment variable.

use std::{env, path::Path};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    // Without the variable torch-sys stops the build, and says what to do, before anything is linked.
    let Some(libtorch) = env::var_os("LIBTORCH") else { return };
    let lib = Path::new(&libtorch).join("lib");
    // Cargo runs this in the crate's folder, but whoever set a relative path meant another.
    let lib = lib.canonicalize().unwrap_or(lib);
    // Bins, tests, benches and examples of this crate alike.
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
