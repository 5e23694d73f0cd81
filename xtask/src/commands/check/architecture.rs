//! `ARCHITECTURE.md` against the repository: its table of crates is what `cargo metadata` says, and the source files
//! that it names exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Heading of the column that lists what a crate builds on.
const DEPENDENCIES: &str = "depends on";
/// What the names of most crates begin with; the table may leave it out.
const PREFIX: &str = "aff-";

/// A row of the table: a crate and the crates of the project that it builds on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) dependencies: BTreeSet<String>,
}

/// The crates of the workspace with those of its crates that each builds on (not those that its tests use).
pub(super) type Packages = BTreeMap<String, BTreeSet<String>>;

/// Reads the table of crates: a row a crate, its name in the first column, from the ground up.
pub(super) fn layers(document: &str) -> Result<Vec<Layer>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = document
        .lines()
        .skip_while(|line| !(line.starts_with('|') && line.contains(DEPENDENCIES)))
        .take_while(|line| line.starts_with('|'))
        .map(cells);
    let head = rows.next().with_context(|| format!("no table with a column `{DEPENDENCIES}`"))?;
    let column = head.iter().position(|cell| cell == DEPENDENCIES).context("the heading of the table")?;
    let rows: Vec<Vec<String>> = rows.skip(1).collect();
    ensure!(!rows.is_empty(), "the table of crates has no row");
    let plain = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let names: Vec<String> = rows.iter().map(|row| plain(&row[0])).collect();
    let full = |word: &str| {
        let word = plain(word);
        let prefixed = format!("{PREFIX}{word}");
        if names.contains(&prefixed) { prefixed } else { word }
    };
    let layer = |(name, row): (&String, &Vec<String>)| {
        let Some(cell) = row.get(column) else { bail!("{name}: its row has no column `{DEPENDENCIES}`") };
        // What stands in parentheses explains.
        let words = cell.split('(').next().unwrap_or("").split(',');
        let dependencies = words.filter(|word| !word.trim().is_empty()).map(full).collect();
        Ok(Layer { name: name.clone(), dependencies })
    };
    names.iter().zip(&rows).map(layer).collect()
}

/// What `cargo metadata` knows of the workspace.
pub(super) fn packages(root: &Path) -> Result<Packages> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .output()
        .context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let members: BTreeSet<String> =
        list(&metadata["packages"]).iter().filter_map(|package| text(&package["name"])).collect();
    let mut packages = Packages::new();
    for package in list(&metadata["packages"]) {
        let name = text(&package["name"]).context("a package without a name")?;
        let ours = list(&package["dependencies"])
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| text(&dependency["name"]))
            .filter(|dependency| members.contains(dependency))
            .collect();
        packages.insert(name, ours);
    }
    Ok(packages)
}

/// Where the table and the workspace differ, and where a crate builds on one that is not below it.
pub(super) fn table_problems(layers: &[Layer], packages: &Packages) -> Vec<String> {
    let mut problems = Vec::new();
    let mut below = BTreeSet::new();
    for Layer { name, dependencies } in layers {
        for dependency in dependencies.difference(&below) {
            problems.push(format!(
                "ARCHITECTURE.md: `{name}` depends on `{dependency}`, which is not a row above it"
            ));
        }
        below.insert(name.clone());
        let Some(found) = packages.get(name) else {
            problems.push(format!("ARCHITECTURE.md: there is no crate `{name}`"));
            continue;
        };
        for dependency in found.difference(dependencies) {
            problems.push(format!("{name}: depends on `{dependency}`, which ARCHITECTURE.md does not say"));
        }
        for dependency in dependencies.difference(found) {
            problems.push(format!("ARCHITECTURE.md: `{name}` does not depend on `{dependency}`"));
        }
    }
    for name in packages.keys().filter(|name| !below.contains(*name)) {
        problems.push(format!("{name}: is not in ARCHITECTURE.md's table of crates"));
    }
    problems
}

/// Source files that the document names and nobody has. A name may leave out the folders it begins with.
pub(super) fn file_problems(root: &Path, name: &str, document: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "fuzz"] {
        source_files(&root.join(folder), &mut files)?;
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let named: BTreeSet<&str> = document
        .split(|c: char| !is_part(c))
        .map(|word| word.trim_matches('.'))
        .filter(|word| word.ends_with(".rs"))
        .collect();
    let is_missing = |name: &&str| !files.iter().any(|file| Path::new(file).ends_with(name));
    let problem = |file: &str| format!("{name}: there is no source file {file}");
    Ok(named.into_iter().filter(is_missing).map(problem).collect())
}

fn source_files(folder: &Path, files: &mut Vec<String>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            source_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path.display().to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Text.

| crate | what it holds | depends on |
|---|---|---|
| `aff-low` | points | |
| `aff-high` | networks | low |
| `door` | all of it | high, `aff-low` (re-exported) |

More text, with | bars | depends on nothing.
";

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn workspace(edges: &[(&str, &[&str])]) -> Packages {
        edges.iter().map(|&(name, dependencies)| (name.to_owned(), set(dependencies))).collect()
    }

    #[test]
    fn the_table_is_read() {
        let layer = |name: &str, dependencies: &[&str]| Layer {
            name: name.to_owned(),
            dependencies: set(dependencies),
        };
        let expected =
            [layer("aff-low", &[]), layer("aff-high", &["aff-low"]), layer("door", &["aff-high", "aff-low"])];
        assert_eq!(layers(TABLE).unwrap(), expected);
        assert!(layers("| crate | what |\n|---|---|\n| a | b |").is_err());
        assert!(layers("| crate | depends on |\n|---|---|\n").is_err());
    }

    #[test]
    fn every_difference_is_named() {
        let table = layers(TABLE).unwrap();
        let same =
            workspace(&[("aff-low", &[]), ("aff-high", &["aff-low"]), ("door", &["aff-high", "aff-low"])]);
        assert_eq!(table_problems(&table, &same), Vec::<String>::new());
        let other = workspace(&[
            ("aff-low", &["aff-high"]),
            ("aff-high", &[]),
            ("door", &["aff-high", "aff-low"]),
            ("stray", &[]),
        ]);
        assert_eq!(
            table_problems(&table, &other),
            [
                "aff-low: depends on `aff-high`, which ARCHITECTURE.md does not say",
                "ARCHITECTURE.md: `aff-high` does not depend on `aff-low`",
                "stray: is not in ARCHITECTURE.md's table of crates",
            ]
        );
        let upside_down = layers("| crate | depends on |\n|---|---|\n| a | b |\n| b | |").unwrap();
        let problems = table_problems(&upside_down, &workspace(&[("a", &["b"])]));
        assert_eq!(
            problems,
            [
                "ARCHITECTURE.md: `a` depends on `b`, which is not a row above it",
                "ARCHITECTURE.md: there is no crate `b`",
            ]
        );
    }

    #[test]
    fn files_that_are_gone_are_named() {
        let root = super::super::repository_root().unwrap();
        let document = "`check/architecture.rs` is here, `backbone/no_such_stage.rs` is not.";
        assert_eq!(
            file_problems(&root, "ARCHITECTURE.md", document).unwrap(),
            ["ARCHITECTURE.md: there is no source file backbone/no_such_stage.rs"]
        );
    }
}
