//! `cargo xtask check`: rules of the repository that a tool can see.
//!
//! * every crate inherits the workspace's lints, version, edition, licence and minimum Rust version;
//! * every crate but `aff-ops` and the emulator of its tests forbids unsafe code;
//! * every crate that is published packs its licence and a README of its own;
//! * the crates and what they depend on are those of the table in `ARCHITECTURE.md`, and none depends on a crate above it;
//! * the source files that `ARCHITECTURE.md` and `CONTRIBUTING.md` name exist;
//! * links between documents lead to files and headings, and the book's contents name all of its chapters;
//! * dependency versions stand in the root manifest alone;
//! * the README's `cargo` commands name things that exist.

mod architecture;
mod links;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// The only crate that users build which may contain unsafe code.
pub(crate) const UNSAFE_CRATE: &str = "aff-ops";
/// Runs the CUDA kernels of that crate in its tests.
const EMULATOR: &str = "aff-emulator";
/// Keys of `[package]` that crates inherit.
const INHERITED: [&str; 3] = ["version", "edition", "rust-version"];
/// Crates with weights in them, which have terms of their own.
const WITH_WEIGHTS: [&str; 2] = ["aff-cli", "aff-pico-camvid"];
/// Files of every published crate.
const PACKED: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md"];

/// Arguments of `cargo xtask check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {}

impl Check {
    pub(crate) fn run(&self) -> Result<()> {
        let root = repository_root()?;
        let problems = problems(&root)?;
        for problem in &problems {
            println!("{problem}");
        }
        if !problems.is_empty() {
            bail!("{} broken rules of the repository", problems.len());
        }
        println!("all rules of the repository hold");
        Ok(())
    }
}

pub(crate) fn repository_root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    Ok(root.to_path_buf())
}

/// Everything that is wrong in the repository at `root`, a line each.
fn problems(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut found = BTreeSet::new();
    for folder in crate_folders(root)? {
        let manifest = read_manifest(&folder.join("Cargo.toml"))?;
        let name =
            package_name(&manifest).with_context(|| format!("{}: no package name", folder.display()))?;
        problems.extend(manifest_problems(&name, &manifest));
        problems.extend(source_problems(&name, &folder)?);
        problems.extend(package_problems(&name, &manifest, &folder));
        found.insert(name);
    }
    let document = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let layers = architecture::layers(&document).context("ARCHITECTURE.md")?;
    problems.extend(architecture::table_problems(&layers, &architecture::packages(root)?));
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let document = std::fs::read_to_string(root.join(name)).context(name)?;
        problems.extend(architecture::file_problems(root, name, &document)?);
    }
    problems.extend(links::problems(root)?);
    let readme = std::fs::read_to_string(root.join("README.md")).context("README.md")?;
    problems.extend(readme_problems(root, &readme, &found));
    Ok(problems)
}

fn crate_folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.join("xtask"), root.join("crates/aff-ops/emulator")];
    for parent in ["crates", "models"] {
        for entry in std::fs::read_dir(root.join(parent)).context(parent)? {
            let folder = entry?.path();
            if folder.join("Cargo.toml").is_file() {
                folders.push(folder);
            }
        }
    }
    folders.sort();
    Ok(folders)
}

fn read_manifest(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

fn package_name(manifest: &Table) -> Option<String> {
    Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
}

fn is_inherited(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

fn manifest_problems(name: &str, manifest: &Table) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_inherited(manifest.get("lints")) {
        problems.push(format!("{name}: does not inherit the lints (`[lints] workspace = true`)"));
    }
    let package = manifest.get("package");
    for key in INHERITED {
        if !is_inherited(package.and_then(|package| package.get(key))) {
            problems.push(format!("{name}: does not inherit `{key}` (`{key}.workspace = true`)"));
        }
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(Value::Table(dependencies)) = manifest.get(section) else { continue };
        for (dependency, value) in dependencies {
            if !is_inherited(Some(value)) {
                problems.push(format!("{name}: the version of `{dependency}` is not inherited"));
            }
        }
    }
    problems
}

/// What a registry and its readers expect of a crate: its licence, a README, a description.
fn package_problems(name: &str, manifest: &Table, folder: &Path) -> Vec<String> {
    let package = manifest.get("package");
    let value = |key: &str| package.and_then(|package| package.get(key));
    if value("publish").and_then(Value::as_bool) == Some(false) {
        return Vec::new();
    }
    let mut problems = Vec::new();
    if !WITH_WEIGHTS.contains(&name) {
        if !is_inherited(value("license")) {
            problems.push(format!("{name}: does not inherit `license` (`license.workspace = true`)"));
        }
        let missing = PACKED.iter().filter(|file| !folder.join(file).is_file());
        problems.extend(missing.map(|file| format!("{name}: has no {file}")));
    }
    for key in ["description", "documentation", "keywords", "categories"] {
        if value(key).is_none() {
            problems.push(format!("{name}: the package has no `{key}`"));
        }
    }
    problems
}

/// Looks at the crate's root file for the attribute that forbids unsafe code.
fn source_problems(name: &str, folder: &Path) -> Result<Vec<String>> {
    let candidates = ["src/lib.rs", "src/main.rs", "lib.rs"].map(|file| folder.join(file));
    let Some(root) = candidates.iter().find(|path| path.is_file()) else {
        return Ok(vec![format!("{name}: has none of src/lib.rs, src/main.rs and lib.rs")]);
    };
    let text = std::fs::read_to_string(root).with_context(|| root.display().to_string())?;
    if [UNSAFE_CRATE, EMULATOR].contains(&name) || text.contains("#![forbid(unsafe_code)]") {
        return Ok(Vec::new());
    }
    Ok(vec![format!("{name}: {} lacks #![forbid(unsafe_code)]", root.display())])
}

/// Checks the `cargo` lines of the README's code blocks: packages, subcommands and files must exist.
fn readme_problems(root: &Path, readme: &str, crates: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut commands = 0;
    for line in readme.lines().map(str::trim).filter(|line| line.starts_with("cargo ")) {
        commands += 1;
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        for pair in words.windows(2) {
            if matches!(pair[0], "-p" | "--package") && !crates.contains(pair[1]) {
                problems.push(format!("README.md: `{line}`: there is no package {}", pair[1]));
            }
        }
        for word in &words[1..] {
            let names_file =
                ["assets/", "fixtures/", "models/", "docs/"].iter().any(|dir| word.starts_with(dir));
            if names_file && !root.join(word).exists() {
                problems.push(format!("README.md: `{line}`: there is no {word}"));
            }
        }
    }
    if commands == 0 {
        problems.push("README.md: shows no cargo command".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_rules() {
        assert_eq!(problems(&repository_root().unwrap()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_breaks_rules_is_named() {
        let manifest = r#"
            [package]
            name = "aff-geometry"
            version = "1.0.0"
            edition.workspace = true
            license.workspace = true
            rust-version.workspace = true
            [dependencies]
            aff-ops.workspace = true
            rayon = "1"
        "#;
        assert_eq!(
            manifest_problems("aff-geometry", &manifest.parse().unwrap()),
            [
                "aff-geometry: does not inherit the lints (`[lints] workspace = true`)",
                "aff-geometry: does not inherit `version` (`version.workspace = true`)",
                "aff-geometry: the version of `rayon` is not inherited",
            ]
        );
    }

    #[test]
    fn readme_commands_must_exist() {
        let root = repository_root().unwrap();
        let crates = BTreeSet::from(["aff-cli".to_owned()]);
        let readme = "cargo run -p aff-cli -- predict assets/no-such-photo.jpg\ncargo test -p nowhere";
        assert_eq!(readme_problems(&root, readme, &crates).len(), 2);
        assert_eq!(readme_problems(&root, "no command", &crates).len(), 1);
    }
}
