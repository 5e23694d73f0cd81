//! `aff bench`: how long the network takes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use autofocusformer::{Tensor, ops};
use clap::builder::RangedU64ValueParser;

use crate::model_args::ModelArgs;
use crate::terminal::print;

/// Pixels of an input that is measured; the network takes a hundred times their number in bytes and more.
const MOST_PIXELS: usize = 1 << 26;

/// Measure how long the network takes on an input of a given size
#[derive(Debug, clap::Args)]
pub struct Bench {
    #[command(flatten)]
    model: ModelArgs,
    /// Height and width of the input in pixels
    #[arg(long, default_value_t = 512, value_name = "PIXELS", value_parser = RangedU64ValueParser::<usize>::new().range(1..=8192))]
    size: usize,
    /// Images at a time
    #[arg(long, default_value_t = 1, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    batch: usize,
    /// Runs that are measured, after one that is not
    #[arg(long, default_value_t = 5, value_name = "COUNT", value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    runs: usize,
}

impl Bench {
    /// Runs the network and prints the median and the range.
    ///
    /// # Errors
    /// If the model cannot be loaded or the input is too large.
    pub fn run(&self) -> Result<()> {
        let pixels = self.batch * self.size * self.size;
        ensure!(
            pixels <= MOST_PIXELS,
            "--batch {} of --size {} are {pixels} pixels; expected at most {MOST_PIXELS}",
            self.batch,
            self.size
        );
        let model = self.model.load()?;
        let options = model.tensor_options();
        let shape = (self.batch, 3, self.size, self.size);
        let input = Tensor::randn(0_f32, 1.0, shape, &options.device)?.to_dtype(options.dtype)?;
        // A GPU goes on while the program does.
        let run = || -> Result<()> {
            model.features(&input)?;
            Ok(options.device.synchronize()?)
        };
        run()?;
        let mut times = (0..self.runs)
            .map(|_| {
                let start = Instant::now();
                run()?;
                Ok(start.elapsed())
            })
            .collect::<Result<Vec<Duration>>>()?;
        times.sort();
        print(format_args!(
            "{}, {} x 3 x {size} x {size}: median {:.1?} of {} runs, {:.1?} to {:.1?}; {} threads, {}",
            self.model.name(),
            self.batch,
            times[times.len() / 2],
            self.runs,
            times[0],
            times[times.len() - 1],
            std::thread::available_parallelism().map_or(1, usize::from),
            ops::instruction_set(),
            size = self.size,
        ))
    }
}
