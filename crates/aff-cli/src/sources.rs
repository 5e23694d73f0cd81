//! Photos as a user names them: files, folders, patterns, standard input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use autofocusformer::vision::{self, DecodeLimits, RgbImage};

use crate::arguments::extension;

/// Endings of files that a folder is searched for.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "jfif"];
/// Results count pixels in 32 bits.
const MOST_PIXELS: u64 = u32::MAX as u64;
/// Stands for standard input.
const STDIN: &str = "-";

/// Arguments of every command that takes photos.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// Photos (JPEG, PNG, WebP, BMP or TIFF), folders of them, patterns such as 'photos/*.jpg', or - for standard input
    #[arg(required = true, value_name = "PHOTO")]
    sources: Vec<PathBuf>,
    /// Search the folders in the given folders, too; results go into folders of the same names
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    limit: PixelLimit,
}

/// Argument of every command that decodes a photo.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct PixelLimit {
    /// Refuse photos of more pixels; a photo takes three bytes of memory a pixel and more
    #[arg(long, value_name = "COUNT", default_value_t = vision::MAX_PIXELS, value_parser = clap::value_parser!(u64).range(1..=MOST_PIXELS))]
    max_pixels: u64,
}

impl PixelLimit {
    pub(crate) fn limits(self) -> DecodeLimits {
        DecodeLimits::default().with_max_pixels(self.max_pixels)
    }
}

/// A photo and the name of its results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// What the names of its results begin with, below the folder of the results; of whatever bytes the system allows.
    pub(crate) name: PathBuf,
}

impl Source {
    /// Reads the photo.
    pub(crate) fn open(&self, limits: &DecodeLimits) -> Result<RgbImage> {
        let photo = if self.is_stdin() {
            vision::read_from(std::io::stdin().lock(), "standard input", limits)?
        } else {
            vision::open_within(&self.path, limits)?
        };
        tracing::debug!(source = %self.path.display(), width = photo.width(), height = photo.height(), "decoded");
        Ok(photo)
    }

    pub(crate) fn is_stdin(&self) -> bool {
        self.path == Path::new(STDIN)
    }

    /// The path on one line of a terminal, whatever characters its name has.
    pub(crate) fn shown(&self) -> String {
        let text = self.path.to_string_lossy();
        if text.chars().any(char::is_control) { format!("{text:?}") } else { text.into_owned() }
    }
}

impl SourceArgs {
    /// How large a photo may be.
    pub(crate) fn limits(&self) -> DecodeLimits {
        self.limit.limits()
    }

    /// All photos that the arguments name, folders in alphabetical order; no two have results of one name. `note` is told
    /// what was left out.
    pub(crate) fn expand(&self, note: impl Fn(String)) -> Result<Vec<Source>> {
        let mut found = Vec::new();
        for argument in &self.sources {
            if argument.is_dir() {
                found.extend(self.photos_in(argument, &note)?);
            } else if !argument.exists() && argument.to_string_lossy().contains(['*', '?', '[']) {
                found.extend(matches(&argument.to_string_lossy())?.into_iter().map(Found::alone));
            } else {
                found.push(Found::alone(argument.clone()));
            }
        }
        named(found)
    }

    fn photos_in(&self, folder: &Path, note: &impl Fn(String)) -> Result<Vec<Found>> {
        let (mut photos, mut left_out) = (Vec::new(), 0);
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            let searched = folder.join(&below);
            let unreadable = || format!("{}: cannot read the folder", searched.display());
            for entry in std::fs::read_dir(&searched).with_context(unreadable)? {
                let entry = entry.with_context(unreadable)?;
                let (name, path) = (entry.file_name(), entry.path());
                // Links to folders may lead in a circle, and hidden folders belong to programs.
                if entry.file_type().with_context(unreadable)?.is_dir() {
                    if name.to_string_lossy().starts_with('.') {
                        continue;
                    }
                    left_out += usize::from(!self.recursive);
                    if self.recursive {
                        waiting.push(below.join(name));
                    }
                } else if ENDINGS.contains(&extension(&path).as_str()) && path.is_file() {
                    photos.push(Found { path, below: below.clone() });
                }
            }
        }
        let folders = if left_out == 1 { "folder" } else { "folders" };
        if photos.is_empty() {
            let hint = match left_out {
                0 => String::new(),
                _ => format!(" (nor was the {folders} in it searched; --recursive does)"),
            };
            bail!(
                "{}: no photo in this folder; expected files that end in .{}{hint}",
                folder.display(),
                ENDINGS.join(", .")
            );
        }
        if left_out > 0 {
            note(format!(
                "{}: {left_out} {folders} in it left out; --recursive searches them",
                folder.display()
            ));
        }
        photos.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(photos)
    }
}

/// A photo and the folder of its results below that of all results.
struct Found {
    path: PathBuf,
    below: PathBuf,
}

impl Found {
    fn alone(path: PathBuf) -> Self {
        Self { path, below: PathBuf::new() }
    }

    /// What the names of its results begin with: the photo's name without its ending, or with it.
    fn name(&self, ending: Ending) -> Result<PathBuf> {
        if self.path == Path::new(STDIN) {
            return Ok(PathBuf::from("stdin"));
        }
        let name = match ending {
            Ending::Without => self.path.file_stem(),
            Ending::With => self.path.file_name(),
        };
        let name = name.with_context(|| format!("{}: not the name of a photo", self.path.display()))?;
        Ok(self.below.join(name))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Without,
    With,
}

/// Names the results after the photos: `a` for `a.jpg`, but `a.jpg` and `a.png` if there are both. Letter case does not
/// count, as it does not on all systems.
fn named(found: Vec<Found>) -> Result<Vec<Source>> {
    let mut endings = vec![Ending::Without; found.len()];
    loop {
        let names = found
            .iter()
            .zip(&endings)
            .map(|(photo, &ending)| photo.name(ending))
            .collect::<Result<Vec<_>>>()?;
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            groups.entry(name.to_string_lossy().to_lowercase()).or_default().push(index);
        }
        let mut is_settled = true;
        for group in groups.into_values().filter(|group| group.len() > 1) {
            if let Some(&[first, second]) =
                group.get(..2).filter(|_| group.iter().all(|&at| endings[at] == Ending::With))
            {
                bail!(
                    "{}: another photo is named {} as well ({}); their results would overwrite each other",
                    found[second].path.display(),
                    names[second].display(),
                    found[first].path.display()
                );
            }
            group.into_iter().for_each(|at| endings[at] = Ending::With);
            is_settled = false;
        }
        if is_settled {
            return Ok(found
                .into_iter()
                .zip(names)
                .map(|(Found { path, .. }, name)| Source { path, name })
                .collect());
        }
    }
}

fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    let found = glob::glob(pattern).with_context(|| format!("{pattern}: not a pattern of file names"))?;
    let found: Vec<PathBuf> = found.filter_map(Result::ok).filter(|path| path.is_file()).collect();
    if found.is_empty() {
        bail!("{pattern}: no file matches this pattern");
    }
    Ok(found)
}
