//! Segments a photo: `cargo run --release --example segment -- MODEL PHOTO OVERLAY.png`
use autofocusformer::{Device, Segmenter, vision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [model, photo, overlay]: [String; 3] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "MODEL PHOTO OVERLAY.png")?;
    let segmenter = Segmenter::from_pretrained(model, &Device::Cpu)?;
    let photo = vision::open(photo)?;
    let segmentation = segmenter.segment(&photo)?;
    vision::write_png(overlay, &segmentation.overlay(&photo)?)?;
    Ok(())
}
