//! A picture of a run: its loss and its validations over the steps.

use std::path::Path;
use std::sync::Once;

use aff_vision::RgbImage;
use plotters::prelude::*;
use plotters::style::register_font;

use crate::TrainError;

const WIDTH: u32 = 960;
const HEIGHT: u32 = 720;

type Series = Vec<(f64, f64)>;

/// Draws what a `metrics.jsonl` says: the loss (a running mean of it) above, the metric that decides in the
/// validations below. Writes a PNG, whole or not at all.
///
/// # Errors
/// If the metrics cannot be read or the picture not be written.
pub fn draw_curves(metrics: &Path, picture: &Path) -> Result<(), TrainError> {
    let text = std::fs::read_to_string(metrics).map_err(TrainError::io(metrics, "read it"))?;
    let Curves { loss, validation, metric } = series(&text);
    let failed = |error: String| TrainError::Data {
        path: picture.to_path_buf(),
        problem: format!("the curves cannot be drawn: {error}"),
    };
    let mut pixels = vec![0; (3 * WIDTH * HEIGHT) as usize];
    draw(&mut pixels, &smoothed(&loss), (&validation, &metric)).map_err(|error| failed(error.to_string()))?;
    let Some(image) = RgbImage::from_raw(WIDTH, HEIGHT, pixels) else {
        return Err(failed("the picture has another size".to_owned()));
    };
    Ok(aff_vision::write_png(picture, &image)?)
}

/// What is drawn.
#[derive(Debug, Default)]
struct Curves {
    loss: Series,
    validation: Series,
    /// Name of what the validations are of.
    metric: String,
}

fn series(text: &str) -> Curves {
    let mut curves = Curves::default();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let Some(step) = line["step"].as_f64() else { continue };
        if let Some(value) = line["loss"].as_f64() {
            curves.loss.push((step, value));
        } else if let Some(metric) = line["validation"]["decides"].as_str()
            && let Some(value) = line["validation"][metric].as_f64()
        {
            curves.validation.push((step, value));
            metric.clone_into(&mut curves.metric);
        }
    }
    curves
}

/// Means over a hundredth of the run.
fn smoothed(series: &Series) -> Series {
    let length = series.len().div_ceil(100).max(1);
    let mean = |part: &[(f64, f64)]| {
        let sum = part.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / part.len() as f64, sum.1 / part.len() as f64)
    };
    series.chunks(length).map(mean).collect()
}

fn draw(
    pixels: &mut [u8],
    loss: &Series,
    (validation, metric): (&Series, &str),
) -> Result<(), Box<dyn std::error::Error>> {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // Without the font the curves are drawn all the same, and their text is missing.
        let _ = register_font("sans-serif", FontStyle::Normal, aff_vision::FONT);
    });
    let root = BitMapBackend::with_buffer(pixels, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let last = loss.iter().chain(validation).map(|point| point.0).fold(1.0, f64::max);
    let (upper, lower) = root.split_vertically(HEIGHT / 2);
    let most = |series: &Series| series.iter().map(|point| point.1).fold(f64::MIN_POSITIVE, f64::max);
    // Shares of 1 are drawn as such; other metrics have the room that they need.
    let top = if most(validation) <= 1.0 { 1.0 } else { 1.05 * most(validation) };
    let title = format!("{} on the validation split", metric.replace('_', " "));
    for (area, title, top, curve, color) in
        [(upper, "loss", 1.05 * most(loss), loss, BLUE), (lower, title.as_str(), top, validation, RED)]
    {
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..last, 0.0..top)?;
        chart.configure_mesh().x_desc("step").label_style(("sans-serif", 14)).draw()?;
        chart.draw_series(LineSeries::new(curve.iter().copied(), color.stroke_width(2)))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn_of_any_number_of_points() {
        let folder = tempfile::tempdir().unwrap();
        let (metrics, picture) = (folder.path().join("metrics.jsonl"), folder.path().join("curves.png"));
        let mut text = String::new();
        for step in 0..300 {
            std::fs::write(&metrics, &text).unwrap();
            if [0, 1, 2, 299].contains(&step) {
                draw_curves(&metrics, &picture).unwrap();
            }
            text += &format!("{{\"step\":{step},\"loss\":{}}}\n", 30.0 / f64::from(step + 1));
            let found = f64::from(step) / 300.0;
            text += &format!("{{\"step\":{step},\"validation\":{{\"decides\":\"pq\",\"pq\":{found}}}}}\n");
        }
        let image = aff_vision::open(&picture).unwrap();
        let colored = |color: [u8; 3]| image.pixels().filter(|pixel| pixel.0 == color).count();
        assert!(colored([0, 0, 255]) > 300 && colored([255, 0, 0]) > 300);
        let Curves { loss, validation, metric } = series(&text);
        assert_eq!(metric, "pq");
        assert_eq!((loss.len(), validation.len(), smoothed(&loss).len()), (300, 300, 100));
        assert_eq!(smoothed(&loss)[0].0, 1.0);
    }
}
