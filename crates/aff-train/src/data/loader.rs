//! Batches, made ahead of time on threads.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;

use super::DataSet;
use crate::TrainError;
use crate::augment::{Augmentation, normalized_planes};
use crate::random::{Purpose, generator};
use crate::targets::Target;

/// Images of one size and their targets.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B,3,H,W]`, normalised.
    pub pixel_values: Tensor,
    /// For each image; its masks are of size H x W.
    pub targets: Vec<Target>,
}

/// What a loader makes of a data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoaderOptions {
    /// Images of a batch.
    pub batch_size: usize,
    /// How images are varied.
    pub augmentation: Augmentation,
    /// Decides order and variations.
    pub seed: u64,
    /// Threads; the batches do not depend on their number.
    pub workers: usize,
    /// Batches before the first that is wanted.
    pub first: u64,
}

/// An endless sequence of batches. Each epoch shows every image once, in an order of its own.
///
/// Threads work ahead by two batches each and wait then, so that memory is bounded. A batch depends on its number and
/// on the seed alone: a run that is resumed sees what it would have seen.
#[derive(Debug)]
pub struct Loader {
    /// One a thread; batch n comes from thread n mod workers.
    batches: Vec<Receiver<Result<Batch, TrainError>>>,
    next: u64,
}

/// Batches that a thread keeps ready.
const QUEUE: usize = 2;

impl Loader {
    /// Starts the threads.
    pub fn start(data_set: &Arc<dyn DataSet>, options: LoaderOptions) -> Self {
        let workers = options.workers.max(1) as u64;
        let start = |worker: u64| {
            let (sender, receiver) = sync_channel(QUEUE);
            let data_set = Arc::clone(data_set);
            thread::spawn(move || {
                let mut maker = BatchMaker { data_set, options, epoch: None };
                let mut number = options.first + worker;
                // Sending fails once the loader is dropped, which ends the thread.
                while sender.send(maker.batch(number)).is_ok() {
                    number += workers;
                }
            });
            receiver
        };
        Self { batches: (0..workers).map(start).collect(), next: 0 }
    }

    /// The next batch, once it is ready.
    ///
    /// # Errors
    /// If an image or its labels cannot be read.
    pub fn next_batch(&mut self) -> Result<Batch, TrainError> {
        let worker = (self.next % self.batches.len() as u64) as usize;
        self.next += 1;
        self.batches[worker].recv().map_err(|_| TrainError::Loader)?
    }
}

/// A thread's part of the work.
struct BatchMaker {
    data_set: Arc<dyn DataSet>,
    options: LoaderOptions,
    /// Number of the last epoch that was asked for, and its order.
    epoch: Option<(u64, Vec<usize>)>,
}

impl BatchMaker {
    fn batch(&mut self, number: u64) -> Result<Batch, TrainError> {
        let (size, augmentation) = (self.options.batch_size, self.options.augmentation);
        let (height, width) = (augmentation.crop.height as usize, augmentation.crop.width as usize);
        let mut values = Vec::new();
        let mut targets = Vec::with_capacity(size);
        for sample in (0..size as u64).map(|image| number * size as u64 + image) {
            let index = self.image_of(sample);
            let image = self.data_set.load(index)?;
            let mut rng = generator(self.options.seed, Purpose::Augmentation, sample);
            let view = augmentation.apply(&image, &mut rng)?;
            let mut planes = normalized_planes(&view.image);
            if let Some(erase) = augmentation.erase {
                erase.apply(&mut planes, (height, width), &mut rng);
            }
            values.extend_from_slice(&planes);
            targets.push(view.target);
        }
        if let Some(mix) = augmentation.mix {
            let mut rng = generator(self.options.seed, Purpose::Mix, number);
            mix.apply(&mut values, &mut targets, (height, width), &mut rng)?;
        }
        let shape = (size, 3, height, width);
        Ok(Batch { pixel_values: Tensor::from_vec(values, shape, &Device::Cpu)?, targets })
    }

    /// The image that is shown as the sample of a number.
    fn image_of(&mut self, sample: u64) -> usize {
        let images = self.data_set.len();
        let (epoch, place) = (sample / images as u64, (sample % images as u64) as usize);
        let (seed, known) = (self.options.seed, self.epoch.take());
        let current = known.filter(|(number, _)| *number == epoch).unwrap_or_else(|| {
            let mut order: Vec<usize> = (0..images).collect();
            order.shuffle(&mut generator(seed, Purpose::Shuffle, epoch));
            (epoch, order)
        });
        let image = current.1[place];
        self.epoch = Some(current);
        image
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aff_vision::{ImageSize, LabelMap, Rgb, RgbImage};

    use super::*;
    use crate::data::{Category, Sample};

    /// Image i is all of class i.
    #[derive(Debug)]
    struct Plain(usize);

    impl DataSet for Plain {
        fn categories(&self) -> &[Category] {
            &[]
        }

        fn len(&self) -> usize {
            self.0
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn load(&self, index: usize) -> Result<Sample, TrainError> {
            if index == 100 {
                let problem = "is broken".to_owned();
                return Err(TrainError::Data { path: Path::new("100").to_path_buf(), problem });
            }
            let image = RgbImage::from_fn(20, 16, |x, y| Rgb([(x * y) as u8, x as u8, index as u8]));
            let labels = LabelMap::new(ImageSize::new(16, 20), vec![index as u16; 320])?;
            Sample::new(image, Target::Semantic(labels), Path::new("plain"))
        }
    }

    fn options(workers: usize, first: u64) -> LoaderOptions {
        let augmentation = Augmentation { scale: [0.5, 2.0], flip: 0.5, ..Augmentation::crops(8, 8) };
        LoaderOptions { batch_size: 3, augmentation, seed: 4, workers, first }
    }

    fn batches(images: usize, options: LoaderOptions, count: usize) -> Vec<(Vec<f32>, Vec<u16>)> {
        let data_set: Arc<dyn DataSet> = Arc::new(Plain(images));
        let mut loader = Loader::start(&data_set, options);
        let next = |_| {
            let batch = loader.next_batch().unwrap();
            let labels =
                batch.targets.iter().map(|target| target.to_label_map().unwrap().labels()[0]).collect();
            (batch.pixel_values.flatten_all().unwrap().to_vec1().unwrap(), labels)
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn batches_do_not_depend_on_the_threads_or_on_where_one_starts() {
        let all = batches(7, options(1, 0), 12);
        assert!(all == batches(7, options(3, 0), 12));
        assert!(all[5..] == batches(7, options(2, 5), 7));
        let mut other = options(1, 0);
        other.seed = 5;
        assert!(all != batches(7, other, 12));
    }

    #[test]
    fn an_epoch_shows_every_image_once() {
        let shown: Vec<u16> =
            batches(7, options(2, 0), 14).into_iter().flat_map(|(_, labels)| labels).collect();
        let epochs: Vec<&[u16]> = shown.chunks_exact(7).collect();
        for epoch in &epochs {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert!(epochs.iter().any(|epoch| *epoch != epochs[0]));
    }

    #[test]
    fn an_image_that_cannot_be_read_is_an_error() {
        let data_set: Arc<dyn DataSet> = Arc::new(Plain(101));
        let mut loader = Loader::start(&data_set, options(2, 0));
        let error = (0..40).find_map(|_| loader.next_batch().err()).unwrap();
        assert_eq!(error.to_string(), "100: is broken");
    }
}
