//! Configurations of the published implementation in YAML, over checkpoints of a tiny network.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use aff_model::config::{DecoderConfig, Mask2FormerConfig, ModelConfig, PaddingSlots, SegmentationTask};
use aff_weights::{ConfigSource, ConvertOptions, ModelFolder, Overwrite, WeightsError, convert};
use common::{tiny_segmenter, write_torch};

/// A network and what a YAML file says about it.
struct Case {
    classes: usize,
    shepard_power_learnable: bool,
    /// Files by name; `model.yaml` is the one that is named.
    files: Vec<(&'static str, String)>,
}

impl Case {
    fn new(classes: usize, yaml: &str) -> Self {
        let files = vec![("model.yaml", yaml.to_owned())];
        Self { classes, shepard_power_learnable: true, files }
    }

    fn convert_in(&self, folder: &Path) -> Result<ModelConfig, WeightsError> {
        let checkpoint = folder.join("checkpoint.pth");
        write_torch(&checkpoint, &tiny_segmenter(self.classes, self.shepard_power_learnable));
        for (name, text) in &self.files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let output = folder.join("model");
        convert(&ConvertOptions {
            checkpoint,
            backbone: None,
            output: output.clone(),
            config: ConfigSource::Yaml(folder.join("model.yaml")),
            overwrite: Overwrite::Refuse,
            verify: false,
        })?;
        Ok(ModelFolder::open(output)?.config().clone())
    }

    fn convert(&self) -> Result<ModelConfig, WeightsError> {
        self.convert_in(tempfile::tempdir().unwrap().path())
    }

    /// Why it is refused.
    fn refusal(&self) -> String {
        let error = self.convert().unwrap_err().to_string();
        assert!(error.len() < 2048 + 256, "{} bytes", error.len());
        error
    }
}

const CITYSCAPES: &str = r#"
DATASETS:
  TRAIN: ("cityscapes_fine_panoptic_train",)
  TEST: ("cityscapes_fine_panoptic_val",)
MODEL:
  AFF: {ALPHA: 8.0, RESERVE: True}
  SEM_SEG_HEAD: {NUM_CLASSES: 19}
  MASK_FORMER:
    NHEADS: 2
    TEST: {PANOPTIC_ON: True, INSTANCE_ON: True, SEMANTIC_ON: True}
INPUT: {MIN_SIZE_TEST: 1024, MAX_SIZE_TEST: 2048, FORMAT: "RGB"}
"#;

const COCO: &str = r#"
DATASETS:
  TRAIN: ("coco_2017_train",)
  TEST: ("coco_2017_val",)
MODEL:
  AFF: {SHEPARD_POWER: 4.0, SHEPARD_POWER_LEARNABLE: False}
  SEM_SEG_HEAD: {NUM_CLASSES: 80}
  MASK_FORMER:
    NHEADS: 2
    TEST: {INSTANCE_ON: True}
"#;

fn head(config: &ModelConfig) -> &Mask2FormerConfig {
    match config.decoder_config.as_ref() {
        Some(DecoderConfig::Mask2Former(head)) => head,
        other => panic!("{other:?}"),
    }
}

#[test]
fn cityscapes_has_its_classes_and_things() {
    let config = Case::new(19, CITYSCAPES).convert().unwrap();
    assert_eq!((config.id2label[&0].as_str(), config.id2label[&18].as_str()), ("road", "bicycle"));
    let segmentation = config.segmentation_config.as_ref().unwrap();
    assert_eq!(segmentation.task, SegmentationTask::Panoptic);
    assert_eq!(segmentation.thing_ids, (11..19).collect::<Vec<_>>());
    assert_eq!(config.backbone_config.alpha.to_bits(), 8_f64.to_bits());
    assert_eq!(config.backbone_config.padding_slots, PaddingSlots::FirstToken);
    let head = head(&config);
    assert!(head.shepard_power_learnable);
    assert_eq!(head.shepard_power_init.to_bits(), 3_f64.to_bits());
}

#[test]
fn coco_has_its_classes_and_a_constant_power() {
    let case = Case { shepard_power_learnable: false, ..Case::new(80, COCO) };
    let config = case.convert().unwrap();
    assert_eq!((config.id2label[&0].as_str(), config.id2label[&79].as_str()), ("person", "toothbrush"));
    assert_eq!(config.segmentation_config.as_ref().unwrap().thing_ids.len(), 80);
    let head = head(&config);
    assert!(!head.shepard_power_learnable);
    assert_eq!(head.shepard_power_init.to_bits(), 2_f64.to_bits(), "it applies to squared distances here");
}

#[test]
fn a_power_that_is_learnt_is_no_constant() {
    assert!(Case::new(80, COCO).refusal().contains("SHEPARD_POWER_LEARNABLE"));
    let learnt = COCO.replace("LEARNABLE: False", "LEARNABLE: True");
    let case = Case { shepard_power_learnable: false, ..Case::new(80, &learnt) };
    assert!(case.refusal().contains("SHEPARD_POWER_LEARNABLE"));
}

#[test]
fn instances_of_an_unknown_data_set_are_things() {
    let yaml = "MODEL: {MASK_FORMER: {NHEADS: 2, TEST: {INSTANCE_ON: True}}}";
    let config = Case::new(3, yaml).convert().unwrap();
    assert_eq!(config.id2label[&2], "LABEL_2");
    assert_eq!(config.segmentation_config.unwrap().thing_ids, [0, 1, 2]);
}

#[test]
fn settings_that_there_are_none_of_are_refused() {
    for (setting, part) in [
        ("MODEL: {AFF: {RESERVE: False}}", "`MODEL.AFF.RESERVE` is false; expected true"),
        ("MODEL: {MASK_FORMER: {NHEADS: 2, PRE_NORM: True}}", "PRE_NORM"),
        ("{MODEL: {MASK_FORMER: {NHEADS: 2}}, INPUT: {FORMAT: BGR}}", "INPUT.FORMAT"),
        ("MODEL: {MASK_FORMER: {NHEADS: [2]}}", "NHEADS"),
    ] {
        let error = Case::new(3, setting).refusal();
        assert!(error.contains(part), "{setting}: {error}");
    }
}

#[test]
fn bases_are_laid_under_and_their_chains_end() {
    let based = |name: &str| format!("_BASE_: {name}\nMODEL: {{MASK_FORMER: {{NHEADS: 2}}}}\n");
    let mut case = Case::new(3, &based("base.yaml"));
    case.files.push(("base.yaml", "MODEL: {AFF: {ALPHA: 5.0}, MASK_FORMER: {NHEADS: 7}}".to_owned()));
    assert_eq!(case.convert().unwrap().backbone_config.alpha.to_bits(), 5_f64.to_bits());

    for base in ["model.yaml", "./model.yaml", "other/../model.yaml"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("other")).unwrap();
        let error = Case::new(3, &based(base)).convert_in(folder.path()).unwrap_err().to_string();
        assert!(error.contains("circular or longer than 16"), "{base}: {error}");
    }
    for base in ["/etc/hostname", "~/base.yaml"] {
        let error = Case::new(3, &based(base)).refusal();
        assert!(
            error.contains("`_BASE_`") && error.contains("expected a file named from the folder"),
            "{error}"
        );
    }
    assert!(Case::new(3, "_BASE_: [1]").refusal().contains("`_BASE_`"));
}

#[cfg(unix)]
#[test]
fn devices_and_endless_files_are_no_configuration() {
    let error = Case::new(3, "_BASE_: zero").convert_in_with_link("/dev/zero");
    assert!(error.contains("expected a file"), "{error}");
    let long = format!("MODEL: {{}}\n# {}", "x".repeat(2 << 20));
    assert!(Case::new(3, &long).refusal().contains("expected at most 1048576"));
}

#[cfg(unix)]
impl Case {
    /// Why it is refused where the file `zero` leads to a device.
    fn convert_in_with_link(&self, device: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(device, folder.path().join("zero")).unwrap();
        self.convert_in(folder.path()).unwrap_err().to_string()
    }
}

#[test]
fn bombs_and_deep_files_are_refused_in_time() {
    let start = std::time::Instant::now();
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..40 {
        let below = format!("*a{},", level - 1).repeat(9);
        laughs += &format!("a{level}: &a{level} [{below}]\n");
    }
    Case::new(3, &laughs).refusal();
    Case::new(3, &"[".repeat(500_000)).refusal();
    Case::new(3, &format!("MODEL: {}", "{a: ".repeat(100_000))).refusal();
    let text = format!("INPUT: {{FORMAT: '{}'}}", "x".repeat(900_000));
    Case::new(3, &text).refusal();
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_conversion_replaces_nothing_that_it_reads() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    std::fs::create_dir(&output).unwrap();
    let checkpoint = folder.path().join("checkpoint.pth");
    write_torch(&checkpoint, &tiny_segmenter(3, true));
    let yaml = output.join("config.json");
    std::fs::write(&yaml, "MODEL: {MASK_FORMER: {NHEADS: 2}}").unwrap();
    let error = convert(&ConvertOptions {
        checkpoint,
        backbone: None,
        output,
        config: ConfigSource::Yaml(yaml.clone()),
        overwrite: Overwrite::Replace,
        verify: false,
    })
    .unwrap_err();
    assert!(matches!(error, WeightsError::File(_)), "{error}");
    assert_eq!(std::fs::read_to_string(yaml).unwrap(), "MODEL: {MASK_FORMER: {NHEADS: 2}}");
}
