//! Predictions in the files that the official tools of the data sets read.
//!
//! | what was predicted | files | read by |
//! |---|---|---|
//! | objects | `instances.json` | pycocotools |
//! | objects of Cityscapes | `NAME.txt` and a mask `NAME_N.png` for each | cityscapesscripts |
//! | boxes | `boxes.json` | pycocotools |
//! | panoptic segments | `panoptic.json`, `panoptic/NAME.png` | panopticapi, cityscapesscripts |
//! | classes of pixels | `NAME.png` with the data set's own numbers: `labelIds` of Cityscapes, 1 to 150 of ADE20K | cityscapesscripts, ADE20K's |

use std::collections::BTreeSet;
use std::path::PathBuf;

use aff_vision::{CocoRle, InstanceMask, LabelMap, PanopticMap, Rle};
use serde::Serialize;

use super::files::refuse;
use super::{DataSet, IGNORED, Protocol};
use crate::TrainError;
use crate::metrics::{FoundObject, PixelBox};

/// Official result files of a split, written to a folder image by image; [`finish`](Self::finish) writes the files that are about all images.
#[derive(Debug)]
pub struct ResultFiles {
    folder: PathBuf,
    protocol: Protocol,
    /// The data set's numbers of the classes.
    category_ids: Vec<u32>,
    names: BTreeSet<String>,
    instances: Vec<InstanceEntry>,
    boxes: Vec<BoxEntry>,
    segments: Vec<PanopticEntry>,
    /// Which of the files about all images there will be, even without an entry.
    kinds: BTreeSet<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Instances,
    Boxes,
    Panoptic,
}

/// Number of an image, or for Cityscapes its name.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum ImageKey {
    Number(u64),
    Name(String),
}

/// COCO's entry of an object. It has no box: with one, pycocotools would take the box's area for that of the mask.
#[derive(Debug, Serialize)]
struct InstanceEntry {
    image_id: u64,
    category_id: u32,
    segmentation: CocoRle,
    score: f32,
}

#[derive(Debug, Serialize)]
struct BoxEntry {
    image_id: u64,
    category_id: u32,
    bbox: [f64; 4],
    score: f64,
}

#[derive(Debug, Serialize)]
struct PanopticEntry {
    image_id: ImageKey,
    file_name: String,
    segments_info: Vec<SegmentEntry>,
}

#[derive(Debug, Serialize)]
struct SegmentEntry {
    id: u32,
    category_id: u32,
    area: u64,
}

impl ResultFiles {
    /// Results of a data set, to be written to a folder that is there.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn new(folder: impl Into<PathBuf>, data: &dyn DataSet) -> Result<Self, TrainError> {
        let folder = folder.into();
        if !folder.is_dir() {
            return Err(refuse(folder, "there is no such folder; expected one for the result files"));
        }
        Ok(Self {
            folder,
            protocol: data.protocol(),
            category_ids: data.categories().iter().map(|category| category.id).collect(),
            names: BTreeSet::new(),
            instances: Vec::new(),
            boxes: Vec::new(),
            segments: Vec::new(),
            kinds: BTreeSet::new(),
        })
    }

    /// Classes of the pixels of an image. Those of none ([`IGNORED`]) get 0, or 255 where 0 is a class.
    ///
    /// # Errors
    /// If a class is none of the data set's, another image had the same name, or the file cannot be written.
    pub fn add_semantic(
        &mut self,
        data: &dyn DataSet,
        index: usize,
        map: &LabelMap,
    ) -> Result<(), TrainError> {
        let name = self.name(data, index)?;
        let numbers = self.category_ids.iter().map(|&id| u16::try_from(id)).collect::<Result<Vec<_>, _>>();
        let numbers = numbers
            .map_err(|_| TrainError::value("category", "above 65535", "numbers that fit into a label map"))?;
        let unlabelled = [0, 255].into_iter().find(|number| !numbers.contains(number)).unwrap_or(IGNORED);
        let number = |&class: &u16| match class {
            IGNORED => Ok(unlabelled),
            class => self.category(class.into()).map(|id| id as u16),
        };
        let labels = map.labels().iter().map(number).collect::<Result<_, _>>()?;
        Ok(LabelMap::new(map.size(), labels)?.write_png(self.folder.join(format!("{name}.png")))?)
    }

    /// Objects of an image.
    ///
    /// # Errors
    /// As [`Self::add_semantic`].
    pub fn add_instances(
        &mut self,
        data: &dyn DataSet,
        index: usize,
        found: &[InstanceMask],
    ) -> Result<(), TrainError> {
        let name = self.name(data, index)?;
        if self.protocol == Protocol::Cityscapes {
            return self.write_cityscapes_objects(&name, found);
        }
        self.kinds.insert(Kind::Instances);
        for object in found {
            self.instances.push(InstanceEntry {
                image_id: data.image_id(index),
                category_id: self.category(object.label_id as usize)?,
                segmentation: CocoRle::from(&object.mask),
                score: object.score,
            });
        }
        Ok(())
    }

    /// Boxes of the objects of an image.
    ///
    /// # Errors
    /// As [`Self::add_semantic`].
    pub fn add_boxes(
        &mut self,
        data: &dyn DataSet,
        index: usize,
        found: &[FoundObject<PixelBox>],
    ) -> Result<(), TrainError> {
        self.name(data, index)?;
        self.kinds.insert(Kind::Boxes);
        for object in found {
            let PixelBox { left, top, width, height } = object.shape;
            self.boxes.push(BoxEntry {
                image_id: data.image_id(index),
                category_id: self.category(object.class)?,
                bbox: [left, top, width, height],
                score: object.score,
            });
        }
        Ok(())
    }

    /// Panoptic segments of an image.
    ///
    /// # Errors
    /// As [`Self::add_semantic`].
    pub fn add_panoptic(
        &mut self,
        data: &dyn DataSet,
        index: usize,
        map: &PanopticMap,
    ) -> Result<(), TrainError> {
        let name = self.name(data, index)?;
        self.kinds.insert(Kind::Panoptic);
        let pictures = self.folder.join("panoptic");
        std::fs::create_dir_all(&pictures).map_err(TrainError::io(&pictures, "make the folder"))?;
        let file_name = format!("{name}.png");
        map.write_png(pictures.join(&file_name))?;
        let mut segments_info = Vec::with_capacity(map.segments().len());
        for segment in map.segments() {
            let category_id = self.category(segment.label_id as usize)?;
            segments_info.push(SegmentEntry { id: segment.id, category_id, area: segment.area });
        }
        let image_id = match self.protocol {
            Protocol::Cityscapes => ImageKey::Name(name),
            Protocol::Coco => ImageKey::Number(data.image_id(index)),
        };
        self.segments.push(PanopticEntry { image_id, file_name, segments_info });
        Ok(())
    }

    /// Writes the files that are about all images, and says which.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(self) -> Result<Vec<PathBuf>, TrainError> {
        #[derive(Serialize)]
        struct Annotations<'a> {
            annotations: &'a [PanopticEntry],
        }
        let mut written = Vec::new();
        for kind in &self.kinds {
            let path = self.folder.join(match kind {
                Kind::Instances => "instances.json",
                Kind::Boxes => "boxes.json",
                Kind::Panoptic => "panoptic.json",
            });
            match kind {
                Kind::Instances => aff_vision::write_json(&path, &self.instances)?,
                Kind::Boxes => aff_vision::write_json(&path, &self.boxes)?,
                Kind::Panoptic => {
                    aff_vision::write_json(&path, &Annotations { annotations: &self.segments })?;
                }
            }
            written.push(path);
        }
        Ok(written)
    }

    /// Name of an image, which its files are named after.
    fn name(&mut self, data: &dyn DataSet, index: usize) -> Result<String, TrainError> {
        let name = data.name(index);
        if !super::files::is_plain(&name) {
            return Err(refuse(
                self.folder.clone(),
                format!("an image is named {name:?}; expected a plain file name"),
            ));
        }
        // Letter case is no difference to some file systems.
        if !self.names.insert(name.to_lowercase()) {
            return Err(refuse(
                self.folder.clone(),
                format!("there are two images named {name:?}; their files would be one"),
            ));
        }
        Ok(name)
    }

    fn category(&self, class: usize) -> Result<u32, TrainError> {
        let expected = || format!("one below {}", self.category_ids.len());
        self.category_ids.get(class).copied().ok_or_else(|| TrainError::value("class", class, expected()))
    }

    fn write_cityscapes_objects(&self, name: &str, found: &[InstanceMask]) -> Result<(), TrainError> {
        let mut lines = String::new();
        for (number, object) in found.iter().enumerate() {
            let file_name = format!("{name}_{number}.png");
            white(&object.mask)?.write_png(self.folder.join(&file_name))?;
            lines += &format!("{file_name} {} {}\n", self.category(object.label_id as usize)?, object.score);
        }
        let path = self.folder.join(format!("{name}.txt"));
        aff_files::write_atomically(&path, lines.as_bytes()).map_err(TrainError::io(&path, "write it"))
    }
}

/// A mask as a picture: 255 inside, 0 outside.
fn white(mask: &Rle) -> Result<LabelMap, TrainError> {
    let pixels = mask.to_bitmap().into_iter().map(|inside| if inside { 255 } else { 0 }).collect();
    Ok(LabelMap::new(mask.size(), pixels)?)
}
