//! What an overlay shows, whatever the task was.

use std::collections::HashMap;

use super::Palette;
use crate::segment::label_name;
use crate::{ImageSize, InstanceMask, LabelMap, PanopticMap};

/// At most one region for each pixel, and the class and caption of each region.
#[derive(Debug, Clone, PartialEq)]
pub struct Regions {
    size: ImageSize,
    /// In raster order: 0 where there is none, else the number of the region plus one.
    index: Vec<u32>,
    regions: Vec<Region>,
    palette: Palette,
}

/// A part of the picture with one colour.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Its class, which decides the colour.
    pub label_id: u32,
    /// Name of the class.
    pub label: String,
    /// What is written on it.
    pub caption: String,
    /// Which shade of the class's colour it has: the number of the object among those of its class, from 0, the class's colour itself.
    pub shade: u32,
}

impl Regions {
    /// One region for each class of a semantic map; `labels` has the names of the classes. Labels beyond them are left out, unless there
    /// are no names at all.
    #[must_use]
    pub fn of_labels(map: &LabelMap, labels: &[String]) -> Self {
        let is_shown = |class: &u16| labels.is_empty() || usize::from(*class) < labels.len();
        let mut classes: Vec<u16> =
            map.areas().into_iter().map(|(class, _)| class).filter(is_shown).collect();
        classes.sort_unstable();
        let mut index_of = vec![0; usize::from(u16::MAX) + 1];
        let mut regions = Vec::with_capacity(classes.len());
        for class in classes {
            let label_id = u32::from(class);
            let label = label_name(labels, label_id);
            regions.push(Region { label_id, caption: label.clone(), label, shade: 0 });
            index_of[usize::from(class)] = regions.len() as u32;
        }
        let index = map.labels().iter().map(|&class| index_of[usize::from(class)]).collect();
        Self { size: map.size(), index, regions, palette: Palette::of_labels(labels) }
    }

    /// One region for each segment of a panoptic map; void stays empty.
    #[must_use]
    pub fn of_panoptic(map: &PanopticMap, labels: &[String]) -> Self {
        let mut index_of = std::collections::BTreeMap::from([(0, 0)]);
        let mut regions = Vec::with_capacity(map.segments().len());
        let mut shades = Shades::default();
        for segment in map.segments() {
            let label = label_name(labels, segment.label_id);
            let caption = if segment.was_fused { label.clone() } else { scored(&label, segment.score) };
            let shade = shades.next(segment.label_id);
            regions.push(Region { label_id: segment.label_id, label, caption, shade });
            index_of.insert(segment.id, regions.len() as u32);
        }
        let index = map.ids().iter().map(|id| index_of.get(id).copied().unwrap_or(0)).collect();
        Self { size: map.size(), index, regions, palette: Palette::of_labels(labels) }
    }

    /// One region for each object; where masks overlap, the object with the higher score is on top.
    ///
    /// Masks of another size than `size` are left out.
    #[must_use]
    pub fn of_instances(size: ImageSize, found: &[InstanceMask], labels: &[String]) -> Self {
        let mut found: Vec<&InstanceMask> =
            found.iter().filter(|object| object.mask.size() == size).collect();
        found.sort_by(|a, b| a.score.total_cmp(&b.score));
        let mut index = vec![0; size.pixels()];
        let mut regions = Vec::with_capacity(found.len());
        for object in found {
            let label = label_name(labels, object.label_id);
            let caption = scored(&label, object.score);
            regions.push(Region { label_id: object.label_id, caption, label, shade: 0 });
            for (start, length) in object.mask.runs() {
                for at in start..start + length {
                    let (x, y) = (at / size.rows(), at % size.rows());
                    index[y * size.columns() + x] = regions.len() as u32;
                }
            }
        }
        // The best object of a class, the last one, has the colour of the class.
        let mut shades = Shades::default();
        for region in regions.iter_mut().rev() {
            region.shade = shades.next(region.label_id);
        }
        Self { size, index, regions, palette: Palette::of_labels(labels) }
    }

    /// The same regions in other colours than those of [`Palette::of_labels`].
    #[must_use]
    pub fn with_palette(self, palette: Palette) -> Self {
        Self { palette, ..self }
    }

    /// The colours of the classes.
    #[must_use]
    pub fn palette(&self) -> &Palette {
        &self.palette
    }

    /// Height and width.
    #[must_use]
    pub fn size(&self) -> ImageSize {
        self.size
    }

    /// The regions.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Region of each pixel in raster order, counted from one; 0 is none.
    pub(super) fn index(&self) -> &[u32] {
        &self.index
    }

    /// Number of pixels of each region.
    pub(super) fn areas(&self) -> Vec<u64> {
        let mut areas = vec![0; self.regions.len() + 1];
        for run in self.index.chunk_by(|a, b| a == b) {
            areas[run[0] as usize] += run.len() as u64;
        }
        areas.split_off(1)
    }

    /// The pixel deepest inside each region as `([x, y], depth)`, where depth is about the distance to the region's edge
    /// in pixels. A chamfer distance in two passes over the picture.
    pub(super) fn innermost(&self) -> Vec<([u32; 2], f32)> {
        /// Steps straight and diagonal, in thirds of a pixel.
        const STRAIGHT: u32 = 3;
        const DIAGONAL: u32 = 4;
        let (rows, columns) = (self.size.rows() as isize, self.size.columns() as isize);
        let mut depth = vec![0u32; self.index.len()];
        // The least of `known` and what the neighbours allow. Beyond the picture is outside, so that captions keep away
        // from its edge.
        let reached = |depth: &[u32], [x, y]: [isize; 2], steps: [(isize, isize, u32); 4], known: u32| {
            let own = self.index[(y * columns + x) as usize];
            steps.iter().fold(known, |least, &(dx, dy, cost)| {
                let (x, y) = (x + dx, y + dy);
                let at = (y * columns + x) as usize;
                let inside = (0..columns).contains(&x) && (0..rows).contains(&y) && self.index[at] == own;
                least.min(if inside { depth[at] + cost } else { cost })
            })
        };
        let before = [(-1, 0, STRAIGHT), (0, -1, STRAIGHT), (-1, -1, DIAGONAL), (1, -1, DIAGONAL)];
        let after = before.map(|(dx, dy, cost)| (-dx, -dy, cost));
        for y in 0..rows {
            for x in 0..columns {
                depth[(y * columns + x) as usize] = reached(&depth, [x, y], before, u32::MAX);
            }
        }
        let mut deepest = vec![([0, 0], 0); self.regions.len() + 1];
        for y in (0..rows).rev() {
            for x in (0..columns).rev() {
                let at = (y * columns + x) as usize;
                depth[at] = reached(&depth, [x, y], after, depth[at]);
                let best = &mut deepest[self.index[at] as usize];
                if depth[at] > best.1 {
                    *best = ([x as u32, y as u32], depth[at]);
                }
            }
        }
        deepest.into_iter().skip(1).map(|(place, depth)| (place, depth as f32 / STRAIGHT as f32)).collect()
    }
}

/// Counts the objects of each class.
#[derive(Debug, Default)]
struct Shades(HashMap<u32, u32>);

impl Shades {
    fn next(&mut self, label_id: u32) -> u32 {
        let count = self.0.entry(label_id).or_default();
        let shade = *count;
        *count += 1;
        shade
    }
}

fn scored(label: &str, score: f32) -> String {
    format!("{label} {:.0}%", score * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rle;

    #[test]
    fn the_innermost_pixel_of_a_square_is_its_middle() {
        // A 5 x 5 square in a 9 x 9 picture, and its surroundings.
        let inside = |at: usize| (2..7).contains(&(at % 9)) && (2..7).contains(&(at / 9));
        let labels = (0..81).map(|at| u16::from(inside(at))).collect();
        let map = LabelMap::new(ImageSize::new(9, 9), labels).unwrap();
        let regions = Regions::of_labels(&map, &[]);
        assert_eq!(regions.regions()[1].caption, "class 1");
        assert_eq!(regions.areas(), [56, 25]);
        assert_eq!(regions.innermost()[1], ([4, 4], 3.0));
    }

    #[test]
    fn the_better_object_is_on_top() {
        let size = ImageSize::new(1, 3);
        let object = |score, label_id, bits: [bool; 3]| InstanceMask {
            label_id,
            score,
            query: 0,
            mask: Rle::from_bitmap(size, &bits).unwrap(),
        };
        let found = [object(0.9, 5, [true, true, false]), object(0.4, 6, [false, true, true])];
        let regions = Regions::of_instances(size, &found, &[]);
        let classes: Vec<u32> =
            regions.index().iter().map(|&at| regions.regions()[at as usize - 1].label_id).collect();
        assert_eq!(classes, [5, 5, 6]);
        assert_eq!(regions.regions()[1].caption, "class 5 90%");
    }

    #[test]
    fn objects_of_a_class_have_shades_of_their_own() {
        let size = ImageSize::new(1, 3);
        let object = |score, label_id, at: usize| InstanceMask {
            label_id,
            score,
            query: 0,
            mask: Rle::from_bitmap(size, &[0, 1, 2].map(|pixel| pixel == at)).unwrap(),
        };
        let found = [object(0.5, 7, 0), object(0.9, 7, 1), object(0.4, 6, 2)];
        let regions = Regions::of_instances(size, &found, &[]);
        let shades: Vec<_> = regions.regions().iter().map(|region| (region.label_id, region.shade)).collect();
        assert_eq!(shades, [(6, 0), (7, 1), (7, 0)], "the best has the colour of the class");
    }
}
