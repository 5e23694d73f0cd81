//! Checkpoints as the published implementation writes them, of any shapes.
#![allow(dead_code, unreachable_pub, reason = "every test takes what it needs")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use aff_model::Network;
use aff_model::config::{
    BackboneConfig, Mask2FormerConfig, ModelConfig, SegmentationConfig, SegmentationTask,
};
use aff_weights::TensorShapes;

/// A file of the project's golden files.
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

/// Tensors of a tiny segmenter; its backbone is that of `pickled-tensors/classifier.pkl`.
pub fn tiny_segmenter(classes: usize, shepard_power_learnable: bool) -> TensorShapes {
    let mut backbone = BackboneConfig::new([2, 2, 4, 4], [1; 4], [1, 1, 1, 2]);
    backbone.mlp_ratio = 2.0;
    let mut head = Mask2FormerConfig::default();
    head.hidden_dim = 8;
    head.mask_feature_size = 8;
    head.num_attention_heads = 2;
    (head.encoder_layers, head.encoder_feedforward_dim) = (1, 8);
    (head.decoder_layers, head.decoder_feedforward_dim) = (1, 8);
    head.shepard_power_learnable = shepard_power_learnable;
    let segmentation = SegmentationConfig::new(SegmentationTask::Semantic);
    let labels = (0..classes).map(|class| class.to_string());
    let config = ModelConfig::segmenter(backbone, head, 3, segmentation, labels);
    Network::expected_tensors(&config).unwrap()
}

/// Writes zeros of the shapes as `torch.save` does: a zip archive of stored entries and a pickle.
pub fn write_torch(path: &Path, shapes: &TensorShapes) {
    write_torch_of("FloatStorage", 4, path, shapes);
}

/// As [`write_torch`], of elements of `size` bytes in storages of a class.
pub fn write_torch_of(class: &str, size: usize, path: &Path, shapes: &TensorShapes) {
    let mut pickle = b"\x80\x02}".to_vec();
    pickle_text(&mut pickle, "model");
    pickle.push(b'}');
    let mut storages = Vec::new();
    for (index, (name, shape)) in shapes.iter().enumerate() {
        pickle_text(&mut pickle, name);
        pickle_tensor(&mut pickle, class, &index.to_string(), shape);
        pickle.push(b's');
        storages.push((index.to_string(), shape.iter().product::<usize>() * size));
    }
    pickle.extend(b"s.");

    let mut zip = ZipWriter::new(BufWriter::new(File::create(path).unwrap()));
    zip.entry("archive/data.pkl", &pickle);
    for (name, length) in storages {
        zip.entry(&format!("archive/data/{name}"), &vec![0; length]);
    }
    zip.finish();
}

/// A checkpoint of `torch.save` in memory.
pub fn torch_archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Vec::new());
    zip.entry("archive/data.pkl", pickle);
    for (name, bytes) in storages {
        zip.entry(&format!("archive/data/{name}"), bytes);
    }
    zip.finish()
}

/// Pushes a text.
pub fn pickle_text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn pickle_number(pickle: &mut Vec<u8>, number: usize) {
    pickle.push(b'J');
    pickle.extend((number as u32).to_le_bytes());
}

/// Pushes a tensor that fills a storage.
pub fn pickle_tensor(pickle: &mut Vec<u8>, class: &str, storage: &str, shape: &[usize]) {
    let count: usize = shape.iter().product();
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(pickle, "storage");
    pickle.extend(format!("ctorch\n{class}\n").as_bytes());
    pickle_text(pickle, storage);
    pickle_text(pickle, "cpu");
    pickle_number(pickle, count);
    pickle.extend(b"tQK\x00(");
    shape.iter().for_each(|&size| pickle_number(pickle, size));
    pickle.extend(b"t(");
    let mut stride = count;
    for &size in shape {
        stride /= size.max(1);
        pickle_number(pickle, stride);
    }
    pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
}

/// Writes stored entries one after another.
struct ZipWriter<W> {
    file: W,
    directory: Vec<u8>,
    offset: usize,
    entries: u16,
}

impl<W: Write> ZipWriter<W> {
    fn new(file: W) -> Self {
        Self { file, directory: Vec::new(), offset: 0, entries: 0 }
    }

    fn entry(&mut self, name: &str, content: &[u8]) {
        let size = (content.len() as u32).to_le_bytes();
        let head = [
            &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &size,
            &size,
            &(name.len() as u16).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        self.file.write_all(&[b"PK\x03\x04", &head[..], name.as_bytes()].concat()).unwrap();
        self.file.write_all(content).unwrap();
        let offset = (self.offset as u32).to_le_bytes();
        let record = [b"PK\x01\x02\x14\x00", &head[..], &[0; 10], &offset, name.as_bytes()].concat();
        self.directory.extend(record);
        self.offset += 4 + head.len() + name.len() + content.len();
        self.entries += 1;
    }

    fn finish(mut self) -> W {
        let count = self.entries.to_le_bytes();
        let end = [
            b"PK\x05\x06\0\0\0\0",
            &count[..],
            &count,
            &(self.directory.len() as u32).to_le_bytes(),
            &(self.offset as u32).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        self.file.write_all(&[self.directory, end].concat()).unwrap();
        self.file.flush().unwrap();
        self.file
    }
}
