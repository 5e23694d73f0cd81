//! The JSON files of COCO, read and checked: what is wrong is named by its number in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aff_vision::{ImageSize, MAX_PIXELS};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::TrainError;
use crate::data::files::{inside, read_text, refuse};
use crate::data::{Category, CategoryKind};

/// A file of instances or of panoptic annotations.
#[derive(Debug, Deserialize)]
struct File {
    images: Vec<Box<RawValue>>,
    annotations: Vec<Box<RawValue>>,
    categories: Vec<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct ImageRecord {
    id: u64,
    file_name: String,
    height: u32,
    width: u32,
}

#[derive(Debug, Deserialize)]
struct CategoryRecord {
    id: u32,
    name: String,
    /// Missing in files of instances, all of which are things.
    isthing: Option<u8>,
}

/// An object of an image.
#[derive(Debug, Deserialize)]
pub(super) struct ObjectRecord {
    pub(super) id: u64,
    image_id: u64,
    category_id: u32,
    #[serde(default)]
    pub(super) iscrowd: u8,
    pub(super) area: Option<f64>,
    /// Left, top, width, height.
    pub(super) bbox: Option<[f64; 4]>,
    /// Read when the image is.
    pub(super) segmentation: Option<Box<RawValue>>,
}

/// The segments of an image.
#[derive(Debug, Deserialize)]
struct PanopticRecord {
    image_id: u64,
    file_name: String,
    segments_info: Vec<SegmentRecord>,
}

/// A segment of an image.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SegmentRecord {
    pub(super) id: u32,
    category_id: u32,
    #[serde(default)]
    pub(super) iscrowd: u8,
    pub(super) area: Option<f64>,
    pub(super) bbox: Option<[f64; 4]>,
}

/// An image of a file.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) id: u64,
    pub(super) photo: PathBuf,
    pub(super) size: ImageSize,
}

/// A file of instances, checked.
#[derive(Debug)]
pub(super) struct Instances {
    pub(super) categories: Vec<Category>,
    pub(super) images: Vec<Image>,
    /// Objects of each image with their class, in the order of the file.
    pub(super) objects: Vec<Vec<(u32, ObjectRecord)>>,
}

/// The picture of the ids of an image, and its segments with their class.
pub(super) type PanopticSegments = (PathBuf, Vec<(u32, SegmentRecord)>);

/// A file of panoptic annotations, checked.
#[derive(Debug)]
pub(super) struct Panoptic {
    pub(super) categories: Vec<Category>,
    pub(super) images: Vec<Image>,
    /// Those of each image; `None` where the file has none.
    pub(super) segments: Vec<Option<PanopticSegments>>,
}

/// A file with its images and categories checked, whatever its annotations are.
struct Checked {
    path: PathBuf,
    categories: Vec<Category>,
    class: BTreeMap<u32, u32>,
    images: Vec<Image>,
    place: BTreeMap<u64, usize>,
    annotations: Vec<Box<RawValue>>,
}

impl Instances {
    /// Reads a file; `photos` is the folder of the images.
    pub(super) fn read(path: &Path, photos: &Path) -> Result<Self, TrainError> {
        let file = Checked::read(path, photos)?;
        let mut objects: Vec<Vec<(u32, ObjectRecord)>> = file.images.iter().map(|_| Vec::new()).collect();
        let mut ids = BTreeSet::new();
        for (index, text) in file.annotations.iter().enumerate() {
            let object: ObjectRecord = file.parse("annotation", index, text)?;
            let name = format!("annotation {}", object.id);
            if !ids.insert(object.id) {
                return Err(refuse(path, format!("{name}: there are two of this number; expected one")));
            }
            let image = file.image(&name, object.image_id)?;
            let class = file.class(&name, object.category_id)?;
            check_figures(object.iscrowd, object.area, object.bbox)
                .map_err(|problem| refuse(path, format!("{name}: {problem}")))?;
            objects[image].push((class, object));
        }
        Ok(Self { categories: file.categories, images: file.images, objects })
    }
}

impl Panoptic {
    /// Reads a file; `photos` is the folder of the images, `pictures` that of the ids.
    pub(super) fn read(path: &Path, photos: &Path, pictures: &Path) -> Result<Self, TrainError> {
        let file = Checked::read(path, photos)?;
        let mut segments: Vec<Option<PanopticSegments>> = file.images.iter().map(|_| None).collect();
        for (index, text) in file.annotations.iter().enumerate() {
            let record: PanopticRecord = file.parse("annotation", index, text)?;
            let name = format!("annotation of image {}", record.image_id);
            let image = file.image(&name, record.image_id)?;
            let picture = file.file(&name, pictures, &record.file_name)?;
            let mut ids = BTreeSet::from([0]);
            let mut own = Vec::with_capacity(record.segments_info.len());
            for segment in record.segments_info {
                let name = format!("{name}, segment {}", segment.id);
                if !ids.insert(segment.id) || segment.id >= 1 << 24 {
                    let expected = "expected numbers from 1 to 16777215, each once";
                    return Err(refuse(path, format!("{name}: {expected}")));
                }
                let class = file.class(&name, segment.category_id)?;
                check_figures(segment.iscrowd, segment.area, segment.bbox)
                    .map_err(|problem| refuse(path, format!("{name}: {problem}")))?;
                own.push((class, segment));
            }
            if segments[image].replace((picture, own)).is_some() {
                return Err(refuse(path, format!("{name}: there are two; expected one")));
            }
        }
        Ok(Self { categories: file.categories, images: file.images, segments })
    }
}

impl Checked {
    fn read(path: &Path, photos: &Path) -> Result<Self, TrainError> {
        let text = read_text(path)?;
        let file: File = serde_json::from_str(&text)
            // Python writes what is not a number without quotes; with them the annotation that has it can be named.
            .or_else(|error| serde_json::from_str(&quoted_numbers(&text)).map_err(|_| error))
            .map_err(|error| refuse(path, not_json(&text, &error)))?;
        let mut checked = Self {
            path: path.to_path_buf(),
            categories: Vec::new(),
            class: BTreeMap::new(),
            images: Vec::with_capacity(file.images.len()),
            place: BTreeMap::new(),
            annotations: file.annotations,
        };
        checked.add_categories(&file.categories)?;
        for (index, text) in file.images.iter().enumerate() {
            checked.add_image(index, text, photos)?;
        }
        if checked.images.is_empty() {
            return Err(refuse(path, "lists no image"));
        }
        Ok(checked)
    }

    /// Classes are the categories by their number, which may have holes.
    fn add_categories(&mut self, texts: &[Box<RawValue>]) -> Result<(), TrainError> {
        let mut records = BTreeMap::new();
        for (index, text) in texts.iter().enumerate() {
            let record: CategoryRecord = self.parse("category", index, text)?;
            let number = record.id;
            if records.insert(number, record).is_some() {
                return Err(
                    self.refuse(&format!("category {number}"), "there are two of this number; expected one")
                );
            }
        }
        if records.is_empty() || records.len() >= usize::from(u16::MAX) {
            return Err(
                self.refuse("categories", &format!("there are {}; expected 1 to 65534", records.len()))
            );
        }
        for (class, (id, record)) in (0..).zip(records) {
            let kind = if record.isthing == Some(0) { CategoryKind::Stuff } else { CategoryKind::Thing };
            self.class.insert(id, class);
            self.categories.push(Category { kind, ..Category::thing(id, record.name) });
        }
        Ok(())
    }

    fn add_image(&mut self, index: usize, text: &RawValue, photos: &Path) -> Result<(), TrainError> {
        let record: ImageRecord = self.parse("image", index, text)?;
        let name = format!("image {}", record.id);
        let size = ImageSize::new(record.height, record.width);
        if size.is_empty() || size.area() > MAX_PIXELS {
            return Err(self.refuse(&name, &format!("it is {size}; expected 1 to {MAX_PIXELS} pixels")));
        }
        if self.place.insert(record.id, self.images.len()).is_some() {
            return Err(self.refuse(&name, "there are two of this number; expected one"));
        }
        let photo = self.file(&name, photos, &record.file_name)?;
        self.images.push(Image { id: record.id, photo, size });
        Ok(())
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, index: usize, text: &RawValue) -> Result<T, TrainError> {
        serde_json::from_str(text.get()).map_err(|error| {
            // The number in the file, if it has one; else the place.
            let id = serde_json::from_str::<serde_json::Value>(text.get())
                .ok()
                .and_then(|value| value.get("id")?.as_u64());
            let name = id
                .map_or_else(|| format!("{what} at place {index} of the list"), |id| format!("{what} {id}"));
            self.refuse(&name, &error.to_string())
        })
    }

    fn image(&self, name: &str, image_id: u64) -> Result<usize, TrainError> {
        self.place.get(&image_id).copied().ok_or_else(|| {
            self.refuse(
                name,
                &format!("its image is {image_id}; expected one of the {} listed", self.images.len()),
            )
        })
    }

    fn class(&self, name: &str, category: u32) -> Result<u32, TrainError> {
        self.class.get(&category).copied().ok_or_else(|| {
            let known: Vec<String> = self.class.keys().take(8).map(u32::to_string).collect();
            let more = if self.class.len() > known.len() { ", ..." } else { "" };
            self.refuse(
                name,
                &format!("its category is {category}; expected one of {}{more}", known.join(", ")),
            )
        })
    }

    fn file(&self, name: &str, folder: &Path, file_name: &str) -> Result<PathBuf, TrainError> {
        inside(folder, file_name).ok_or_else(|| {
            self.refuse(
                name,
                &format!("its file is {file_name:?}; expected a name inside {}", folder.display()),
            )
        })
    }

    fn refuse(&self, name: &str, problem: &str) -> TrainError {
        refuse(&self.path, format!("{name}: {problem}"))
    }
}

/// A text in which `NaN`, `Infinity` and `-Infinity`, which JSON does not have, are strings.
fn quoted_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(first) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word));
        let length = match (word, first) {
            (Some(word), _) if !in_string => {
                quoted.extend(["\"", word, "\""]);
                word.len()
            }
            // With what it escapes.
            (_, '\\') if in_string => {
                let length = rest.chars().take(2).map(char::len_utf8).sum();
                quoted.push_str(&rest[..length]);
                length
            }
            _ => {
                in_string ^= first == '"';
                quoted.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    quoted
}

/// What is wrong with a text that is no JSON, and the text in front of it.
fn not_json(text: &str, error: &serde_json::Error) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let before: String =
        line.get(..error.column().min(line.len())).unwrap_or_default().chars().rev().take(60).collect();
    let before: String = before.chars().rev().collect();
    format!(
        "is not a COCO file: {error}, after {before:?}; expected JSON with images, annotations and categories"
    )
}

fn check_figures(iscrowd: u8, area: Option<f64>, bbox: Option<[f64; 4]>) -> Result<(), String> {
    if iscrowd > 1 {
        return Err(format!("iscrowd is {iscrowd}; expected 0 or 1"));
    }
    if let Some(area) = area.filter(|area| !(0.0..=f64::from(u32::MAX)).contains(area)) {
        return Err(format!("its area is {area}; expected 0 to {}", u32::MAX));
    }
    let is_wrong = |[left, top, width, height]: &[f64; 4]| {
        let reach = f64::from(u32::MAX);
        [left, top].iter().any(|value| !(-reach..=reach).contains(*value))
            || [width, height].iter().any(|value| !(0.0..=reach).contains(*value))
    };
    match bbox.filter(is_wrong) {
        Some(bbox) => {
            Err(format!("its box is {bbox:?}; expected left, top, width and height, the last two from 0"))
        }
        None => Ok(()),
    }
}
