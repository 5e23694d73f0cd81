//! Writes COCO instance results and a COCO panoptic picture with its annotations, as COCO's tools read them:
//! `cargo run --release --example coco -- MODEL PHOTO FOLDER`. The category ids are the classes' indices plus one.
use autofocusformer::models::config::SegmentationTask::{Instance, Panoptic};
use autofocusformer::{Segmenter, Segments, vision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [model, photo, folder]: [String; 3] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "MODEL PHOTO FOLDER")?;
    let photo = vision::open(photo)?;
    let mut segmenter =
        Segmenter::builder(model).task(Instance).threshold(0.0).overlap_threshold(0.0).build()?;
    let categories: Vec<u32> = (1..=segmenter.labels().len() as u32).collect();
    if let Segments::Instance(found) = segmenter.segment(&photo)?.result() {
        let entries = vision::coco_instances(1, found, &categories)?;
        vision::write_json(format!("{folder}/instances.json"), &entries)?;
    }
    segmenter.options_mut().task = Panoptic;
    if let Segments::Panoptic(map) = segmenter.segment(&photo)?.result() {
        map.write_png(format!("{folder}/panoptic.png"))?;
        let entry = map.to_coco(1, "panoptic.png", &categories)?;
        vision::write_json(format!("{folder}/panoptic.json"), &[entry])?;
    }
    Ok(())
}
