//! Classes of the data sets that published segmenters were trained on.

/// A data set with a fixed list of classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataSet {
    /// ADE20K's scene parsing challenge: 150 classes.
    Ade20k,
    /// Cityscapes: 19 classes, of which the last 8 are things.
    Cityscapes,
    /// The things of Cityscapes alone: 8 classes.
    CityscapesInstances,
    /// COCO's 80 classes of things.
    CocoInstances,
}

impl DataSet {
    /// The data set whose classes these are, in its order.
    ///
    /// ```
    /// use aff_model::data_sets::DataSet;
    ///
    /// assert_eq!(DataSet::of_labels(&DataSet::Ade20k.labels()), Some(DataSet::Ade20k));
    /// assert_eq!(DataSet::of_labels(&["road".to_owned()]), None);
    /// ```
    pub fn of_labels(labels: &[String]) -> Option<Self> {
        let all = [Self::Ade20k, Self::Cityscapes, Self::CityscapesInstances, Self::CocoInstances];
        all.into_iter().find(|data_set| data_set.labels() == labels)
    }

    /// Names of the classes, by index.
    ///
    /// ```
    /// use aff_model::data_sets::DataSet;
    ///
    /// let labels = DataSet::Cityscapes.labels();
    /// assert_eq!((labels.len(), labels[0].as_str()), (19, "road"));
    /// ```
    pub fn labels(self) -> Vec<String> {
        let names = match self {
            Self::Ade20k => ADE20K,
            Self::Cityscapes => &CITYSCAPES_CLASSES[..],
            Self::CityscapesInstances => &CITYSCAPES_CLASSES[CITYSCAPES_STUFF..],
            Self::CocoInstances => COCO_THINGS,
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Indices of the classes that are countable things.
    pub fn thing_ids(self) -> Vec<usize> {
        match self {
            Self::Ade20k => ADE20K_THINGS.to_vec(),
            Self::Cityscapes => (CITYSCAPES_STUFF..CITYSCAPES_CLASSES.len()).collect(),
            Self::CityscapesInstances | Self::CocoInstances => (0..self.labels().len()).collect(),
        }
    }
}

/// Classes of Cityscapes before the first thing; all after it are things.
pub const CITYSCAPES_STUFF: usize = 11;

/// Names of the 19 classes of Cityscapes, in the order of train ids.
pub const CITYSCAPES_CLASSES: [&str; 19] = [
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
];

#[rustfmt::skip]
const COCO_THINGS: &[&str] = &[
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
];

#[rustfmt::skip]
const ADE20K: &[&str] = &[
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass",
    "cabinet", "sidewalk", "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair",
    "car", "water", "painting", "sofa", "shelf", "house", "sea", "mirror", "rug", "field",
    "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp", "bathtub", "railing", "cushion",
    "base", "box", "column", "signboard", "chest of drawers", "counter", "sand", "sink", "skyscraper", "fireplace",
    "refrigerator", "grandstand", "path", "stairs", "runway", "case", "pool table", "pillow", "screen door", "stairway",
    "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower", "book", "hill", "bench",
    "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar", "arcade machine", "hovel",
    "bus", "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight", "booth", "television receiver",
    "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator", "ottoman", "bottle", "buffet",
    "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer", "plaything", "swimming pool",
    "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven", "ball",
    "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher",
    "screen", "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan",
    "pier", "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
];

/// The 100 classes that ADE20K's instance and panoptic tasks count.
#[rustfmt::skip]
const ADE20K_THINGS: &[usize] = &[
    7, 8, 10, 12, 14, 15, 18, 19, 20, 22, 23, 24, 27, 30, 31, 32, 33, 35, 36, 37, 38, 39, 41, 42, 43, 44, 45, 47, 49, 50,
    53, 55, 56, 57, 58, 62, 64, 65, 66, 67, 69, 70, 71, 72, 73, 74, 75, 76, 78, 80, 81, 82, 83, 85, 86, 87, 88, 89, 90, 92,
    93, 95, 97, 98, 102, 103, 104, 107, 108, 110, 111, 112, 115, 116, 118, 119, 120, 121, 123, 124, 125, 126, 127, 129, 130,
    132, 133, 134, 135, 136, 137, 138, 139, 142, 143, 144, 146, 147, 148, 149,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_class_has_a_name_of_its_own() {
        let sizes = [
            (DataSet::Ade20k, 150, 100),
            (DataSet::Cityscapes, 19, 8),
            (DataSet::CityscapesInstances, 8, 8),
            (DataSet::CocoInstances, 80, 80),
        ];
        for (data_set, classes, things) in sizes {
            let labels = data_set.labels();
            assert_eq!(labels.len(), classes);
            assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), classes);
            let ids = data_set.thing_ids();
            assert_eq!(ids.len(), things);
            assert!(ids.windows(2).all(|pair| pair[0] < pair[1]) && ids.iter().all(|&id| id < classes));
        }
        assert_eq!(DataSet::CityscapesInstances.labels()[0], "person");
    }
}
