//! Makes the demo models as archives, from nothing but published weights and seeds.
//!
//! `catalogue` says which models there are, `networks` builds them, `script` turns a network into
//! TorchScript, `archive` packs the result. No Python is involved.

mod archive;
mod catalogue;
mod networks;
mod script;

use anyhow::{Context, bail};
use catalogue::Entry;
use clap::Parser;
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// In the folder for the archives: held by the one zoo that writes there.
const LOCK: &str = ".zoo.lock";

#[derive(Debug, Parser)]
#[command(version, about = "Makes the demo models as archives")]
struct Flags {
    /// Folder with the EfficientNet-Lite weights as safetensors (`make models` fetches them).
    #[arg(long, default_value = ".manifold/weights")]
    weights: PathBuf,
    /// Folder for the archives. Those that are there already stay.
    #[arg(long, default_value = ".manifold/models")]
    out: PathBuf,
    /// Makes only these, named as in the folder; `.tar.gz` may be left out.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Ends when standard input closes, for a program that starts this one.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    if flags.exit_with_parent {
        shared::shutdown::exit_with_parent();
    }
    // Several threads hinder each other on a busy machine (five times slower, measured), and one
    // makes the numbers independent of the machine's cores.
    tch::set_num_threads(1);
    let chosen = chosen(&flags.only)?;
    let _lock = lock(&flags.out).with_context(|| format!("cannot lock {}", flags.out.display()))?;
    for entry in chosen {
        let path = flags.out.join(format!("{}.tar.gz", entry.name));
        // Left by a zoo that was killed; nobody else works here now.
        clear(&scratch_of(&path))?;
        if archive::is_complete(&path) {
            report(&format!("{}: is there", path.display()))?;
            continue;
        }
        make(&entry, &flags, &path).with_context(|| format!("cannot make {}", entry.name))?;
        let size_bytes = fs::metadata(&path)?.len();
        report(&format!("{}: made, {} kB", path.display(), size_bytes / 1000))?;
    }
    Ok(())
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<Entry>> {
    let all = catalogue::entries();
    let wanted: Vec<&str> = only.iter().map(|it| it.trim_end_matches(".tar.gz")).collect();
    if let Some(unknown) = wanted.iter().find(|name| all.iter().all(|it| it.name != **name)) {
        let names: Vec<_> = all.iter().map(|it| it.name.as_str()).collect();
        bail!("there is no model `{unknown}`; there are {}", names.join(", "));
    }
    Ok(all.into_iter().filter(|it| only.is_empty() || wanted.contains(&it.name.as_str())).collect())
}

/// Waits until no other zoo writes into `out`: two would pack each other's halves.
fn lock(out: &Path) -> io::Result<File> {
    fs::create_dir_all(out)?;
    let lock = File::create(out.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {
            report(&format!("{}: another zoo is at work, waiting", out.display()))?;
            lock.lock()?;
        }
    }
    Ok(lock)
}

/// Where an archive is made before it is moved to its place.
fn scratch_of(path: &Path) -> PathBuf {
    path.with_extension("part")
}

fn clear(scratch: &Path) -> io::Result<()> {
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn make(entry: &Entry, flags: &Flags, path: &Path) -> anyhow::Result<()> {
    let network = networks::build(&entry.network, &flags.weights)?;
    // `TorchScript` files carry their own file name: a constant one keeps them reproducible.
    let scratch = scratch_of(path);
    fs::create_dir_all(&scratch)?;
    let model = scratch.join("model.pt");
    script::save_checked(&network, &model)?;
    let files = catalogue::files(entry, fs::read(&model)?, network.licence);
    archive::write(&scratch.join("archive"), &files)?;
    fs::rename(scratch.join("archive"), path)?;
    clear(&scratch)?;
    Ok(())
}

fn report(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_chosen_by_name_with_or_without_the_ending() {
        let only = ["resnet_18".to_owned(), "demo-subfolder/squeezenet_v1.0_5.tar.gz".to_owned()];
        let names: Vec<_> = chosen(&only).unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["resnet_18", "demo-subfolder/squeezenet_v1.0_5"]);
    }

    #[test]
    fn without_a_choice_every_model_is_made() {
        assert_eq!(chosen(&[]).unwrap().len(), 13);
    }

    #[test]
    fn only_one_zoo_writes_into_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("models");
        let first = lock(&out).unwrap();
        let second = File::create(out.join(LOCK)).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        lock(&out).unwrap();
    }

    #[test]
    fn what_a_killed_zoo_left_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = scratch_of(&folder.path().join("x.tar.gz"));
        assert!(scratch.ends_with("x.tar.part"));
        clear(&scratch).unwrap();
        fs::create_dir(&scratch).unwrap();
        fs::write(scratch.join("model.pt"), "half").unwrap();
        clear(&scratch).unwrap();
        assert!(!scratch.exists());
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = chosen(&["resnet_19".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`resnet_19`") && error.contains("resnet_18"), "{error}");
    }
}
