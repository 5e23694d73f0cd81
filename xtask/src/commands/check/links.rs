//! Links between the repository's documents, and the book's table of contents.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folders whose documents are read, and how deep.
const PLACES: [(&str, usize); 6] =
    [("", 0), ("docs", 3), ("crates", 1), ("models", 1), ("fixtures", 1), ("fuzz", 0)];
const CONTENTS: &str = "docs/SUMMARY.md";

/// Links that lead to no file or no heading, and chapters of the book that its contents do not name.
pub(super) fn problems(root: &Path) -> Result<Vec<String>> {
    let mut documents = Vec::new();
    for (folder, depth) in PLACES {
        collect(&root.join(folder), depth, &mut documents)?;
    }
    let mut problems = Vec::new();
    for document in &documents {
        let text = read(document)?;
        let shown = document.strip_prefix(root).unwrap_or(document).display();
        for link in links(&text) {
            if let Some(problem) = link_problem(root, document, link)? {
                problems.push(format!("{shown}: the link to {link}: {problem}"));
            }
        }
    }
    problems.extend(contents_problems(root, &documents)?);
    Ok(problems)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn collect(folder: &Path, depth: usize, documents: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, documents)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path);
        }
    }
    documents.sort();
    Ok(())
}

/// The lines that are prose: links in examples of commands and code are none.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Where the links of a document lead to.
fn links(text: &str) -> Vec<&str> {
    prose(text).flat_map(links_of_line).collect()
}

fn links_of_line(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|part| Some(part.split_once(')')?.0))
}

fn link_problem(root: &Path, document: &Path, link: &str) -> Result<Option<String>> {
    if link.contains("://") || link.starts_with("mailto:") {
        return Ok(None);
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = document.parent().unwrap_or(root);
    let target = if file.is_empty() { document.to_path_buf() } else { folder.join(file) };
    if !target.exists() {
        return Ok(Some("there is no such file".to_owned()));
    }
    let has_headings = target.extension().is_some_and(|extension| extension == "md");
    if heading.is_empty() || !has_headings || anchors(&read(&target)?).contains(heading) {
        return Ok(None);
    }
    Ok(Some("the file has no such heading".to_owned()))
}

/// What headings are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// Documents in the book's folder that its contents do not name.
fn contents_problems(root: &Path, documents: &[PathBuf]) -> Result<Vec<String>> {
    let contents = root.join(CONTENTS);
    let text = read(&contents)?;
    let folder = root.join("docs");
    let named: BTreeSet<PathBuf> = links(&text).into_iter().map(|link| folder.join(link)).collect();
    let is_left_out =
        |path: &&PathBuf| path.starts_with(&folder) && **path != contents && !named.contains(*path);
    let problem = |path: &PathBuf| format!("{CONTENTS}: {} is not named", path.display());
    Ok(documents.iter().filter(is_left_out).map(problem).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_links_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        for (place, _) in PLACES.iter().filter(|(place, _)| !place.is_empty()) {
            std::fs::create_dir(folder.path().join(place)).unwrap();
        }
        write("docs/SUMMARY.md", "* [One](one.md)\n");
        write(
            "docs/one.md",
            "# One & only\n```sh\n# Not a heading [x](y)\n```\n[web](https://example.org/#a)\n",
        );
        write("docs/two.md", "");
        write(
            "a.md",
            "[a](docs/one.md) [b](docs/one.md#one--only), [c](no.md) [d](#x) [e](docs/one.md#not-a-heading-xy)",
        );
        let found = problems(folder.path()).unwrap();
        assert_eq!(found.len(), 4, "{found:?}");
        for (problem, parts) in found.iter().zip([
            ["a.md: the link to no.md", "no such file"],
            ["a.md: the link to #x", "no such heading"],
            ["a.md: the link to docs/one.md#not-a-heading-xy", "no such heading"],
            ["docs/SUMMARY.md: ", "two.md is not named"],
        ]) {
            assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
        }
    }
}
