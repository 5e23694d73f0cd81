//! The recipes of the repository, and what may be wrong with recipes.

use std::path::{Path, PathBuf};

use aff_model::config::DecoderConfig;
use aff_train::augment::ScaleOf;
use aff_train::data::{DataSet, Shapes};
use aff_train::tasks::TaskName;
use aff_train::{ModelChoice, Recipe, Trainer, Wish, suggest};
use aff_vision::ResizeTarget;
use rand::{Rng, SeedableRng};

fn recipes(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

/// The recipe for a network and pictures of the least size, two steps long.
fn reduced(mut recipe: Recipe, data: &Shapes, output: &Path) -> Recipe {
    let config = recipe.model_config(data.categories()).unwrap();
    recipe.preprocessor().unwrap();
    let mut backbone = config.backbone_config;
    backbone.embed_dims = [8, 8, 16, 16];
    backbone.depths = [1; 4];
    backbone.num_heads = [1, 1, 2, 2];
    recipe.model.backbone = Some(backbone);
    recipe.model.decoder = match config.decoder_config {
        Some(DecoderConfig::Mask2Former(mut decoder)) => {
            (decoder.hidden_dim, decoder.mask_feature_size, decoder.num_attention_heads) = (16, 16, 2);
            (decoder.encoder_layers, decoder.decoder_layers) = (1, 1);
            (decoder.encoder_feedforward_dim, decoder.decoder_feedforward_dim) = (16, 16);
            Some(decoder.into())
        }
        Some(DecoderConfig::DeformableDetr(mut decoder)) => {
            (decoder.hidden_dim, decoder.num_attention_heads) = (16, 2);
            (decoder.encoder_layers, decoder.decoder_layers) = (1, 1);
            (decoder.encoder_feedforward_dim, decoder.decoder_feedforward_dim) = (16, 16);
            Some(decoder.into())
        }
        other => other,
    };
    recipe.model.num_queries = config.num_queries.map(|_| 6);
    recipe.model.image_size = Some(ResizeTarget { shortest_edge: 32, longest_edge: Some(64) });
    recipe.model.initial = None;
    let crop = &mut recipe.augmentation.crop;
    (crop.height, crop.width) = (32, 32 * crop.width / crop.height);
    if let ScaleOf::ShortestEdge { pixels, longest } = &mut recipe.augmentation.scale_of {
        (*pixels, *longest) = (32, 256);
    }
    recipe.loss.points = 32;
    (recipe.run.steps, recipe.run.batch_size, recipe.run.accumulation) = (2, 2, 1);
    (recipe.run.validate_every, recipe.run.workers) = (100, 1);
    recipe.run.output = output.to_path_buf();
    recipe
}

#[test]
fn recipes_of_all_published_models_do_two_steps_at_reduced_width() {
    let published: Vec<String> =
        aff_weights::published_models().into_iter().map(|preset| preset.name).collect();
    let paths = recipes("published");
    let names: Vec<_> =
        paths.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    for name in &published {
        assert!(names.contains(name), "there is no recipe of {name}");
    }
    let folder = tempfile::tempdir().unwrap();
    for (path, name) in paths.iter().zip(&names) {
        let recipe = Recipe::read(path).unwrap();
        assert_eq!(recipe.model.preset.as_ref(), Some(name));
        let data = Shapes::new(recipe.task, 8);
        let recipe = reduced(recipe, &data, &folder.path().join(name));
        let mut trainer = Trainer::builder(recipe).train_data(data).build().unwrap();
        trainer.run(&mut ()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(trainer.step(), 2);
    }
}

#[test]
fn the_other_recipes_do_two_steps_too() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [recipes(""), recipes("ablation")].concat();
    assert!(paths.len() >= 9);
    for (number, path) in paths.iter().enumerate() {
        let recipe = Recipe::read(path).unwrap();
        let data = Shapes::new(recipe.task, 8);
        let recipe = reduced(recipe, &data, &folder.path().join(number.to_string()));
        let mut trainer = Trainer::builder(recipe).train_data(data).build().unwrap();
        trainer.run(&mut ()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Recipes with a few bytes or lines changed are read, or refused with a message of bearable length; nothing else happens.
#[test]
fn changed_recipes_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.yaml");
    let texts = [
        include_str!("../data/nano.yaml").to_owned(),
        std::fs::read_to_string(recipes("published").last().unwrap()).unwrap(),
    ];
    let pieces = [
        "0",
        "-1",
        "1e999",
        ".nan",
        "18446744073709551616",
        "[",
        "{",
        "}",
        ": ",
        "\n",
        "- ",
        "&a ",
        "*a",
        "!!binary ",
        "~",
        "'",
        "\"",
        "\u{feff}",
        "\t",
        "65536",
        "true",
    ];
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let (mut read, mut refused) = (0, 0);
    for round in 0..1500 {
        let mut bytes = texts[round % 2].clone().into_bytes();
        for _ in 0..rng.random_range(1..4) {
            let place = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[place] = rng.random(),
                1 => drop(bytes.splice(place..place, pieces[rng.random_range(0..pieces.len())].bytes())),
                2 => drop(bytes.drain(place..(place + rng.random_range(1..20)).min(bytes.len()))),
                _ => {
                    let end = (place + rng.random_range(1..40)).min(bytes.len());
                    let part = bytes[place..end].to_vec();
                    drop(bytes.splice(place..place, part));
                }
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match Recipe::read(&path) {
            Ok(recipe) => {
                recipe.validate().unwrap();
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().len() < 4096, "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 40 && refused > 500, "{read} {refused}");
    std::fs::write(&path, "[".repeat(100_000)).unwrap();
    assert!(Recipe::read(&path).is_err());
    std::fs::write(&path, "#".repeat(2 << 20)).unwrap();
    assert!(Recipe::read(&path).unwrap_err().to_string().contains("expected at most 1048576"));
    #[cfg(unix)]
    assert!(Recipe::read("/dev/zero").unwrap_err().to_string().contains("expected a file"));
}

#[test]
fn recipes_are_made_up_from_data_and_task() {
    let data = super::data();
    let output = data.path().join("output");
    let wish = Wish::new(TaskName::Semantic, data.path(), &output);
    let found = suggest(&wish).unwrap();
    assert_eq!(found.recipe.data.validation.as_deref(), Some("val"));
    assert!(found.recipe.model.num_queries >= Some(11));
    assert!(
        found.reasons.len() >= 4 && found.reasons[0].contains("4 images of 11 classes"),
        "{:?}",
        found.reasons
    );
    // What was made up is a recipe like any other, and can be written and read.
    let path = data.path().join("recipe.yaml");
    found.recipe.write(&path).unwrap();
    assert_eq!(Recipe::read(&path).unwrap(), found.recipe);
    let mut short = found.recipe.clone();
    (short.run.steps, short.run.batch_size, short.run.accumulation, short.loss.points) = (1, 1, 1, 64);
    short.data.validation = None;
    Trainer::new(short).unwrap().run(&mut ()).unwrap();

    let mut other = wish.clone();
    other.model = ModelChoice::Folder(output.join("last"));
    let further = suggest(&other).unwrap().recipe;
    assert_eq!(further.model.backbone, found.recipe.model.backbone);
    assert!(further.optimizer.learning_rate < found.recipe.optimizer.learning_rate);
    other.model = ModelChoice::Preset("aff-giant".to_owned());
    assert!(suggest(&other).unwrap_err().to_string().contains("`model.preset` is aff-giant"));
    other.task = TaskName::Instance;
    let error = suggest(&other).unwrap_err().to_string();
    assert!(error.contains("has labels for semantic, not for instance"), "{error}");
}

#[test]
fn recipes_for_boxes_are_made_up_from_boxes_alone_and_go_on_from_a_segmenter() {
    let data = super::data();
    let object = |id: u32, image: u32| serde_json::json!({"id": id, "image_id": image, "category_id": 1, "bbox": [8, 4, 12, 9]});
    for (split, images) in [("train", 4), ("val", 2)] {
        let image = |id: u32| serde_json::json!({"id": id, "file_name": format!("{id}.png"), "width": 48, "height": 32});
        let file = serde_json::json!({
            "images": (0..images).map(image).collect::<Vec<_>>(),
            "categories": [{"id": 1, "name": "car"}],
            "annotations": (0..30).map(|id| object(id, id % images)).collect::<Vec<_>>(),
        });
        std::fs::write(data.path().join(split).with_extension("json"), file.to_string()).unwrap();
    }
    let output = data.path().join("output");
    let mut wish = Wish::new(TaskName::Detection, data.path(), &output);
    let found = suggest(&wish).unwrap();
    assert!(found.reasons[0].contains("4 images of 1 classes"), "{:?}", found.reasons);
    assert!(matches!(found.recipe.model.decoder, Some(DecoderConfig::DeformableDetr(_))));
    let mut short = found.recipe;
    (short.run.steps, short.run.batch_size, short.run.accumulation) = (1, 1, 1);
    Trainer::new(short).unwrap().run(&mut ()).unwrap();
    assert!(output.join("best/config.json").is_file());

    let mut segmenter = Recipe::smallest(TaskName::Instance, data.path().join("segmenter"));
    (segmenter.run.steps, segmenter.run.checkpoint_every, segmenter.model.num_queries) = (1, 1, Some(5));
    let shapes = Shapes::new(TaskName::Instance, 4);
    Trainer::builder(segmenter.clone()).train_data(shapes).build().unwrap().run(&mut ()).unwrap();
    wish.model = ModelChoice::Folder(data.path().join("segmenter/last"));
    let further = suggest(&wish).unwrap();
    assert!(further.reasons.iter().any(|reason| reason.starts_with("a new head")), "{:?}", further.reasons);
    let Some(DecoderConfig::DeformableDetr(head)) = further.recipe.model.decoder else { panic!("no head") };
    assert_eq!((head.hidden_dim, head.encoder_layers), (16, 1));
    // As many queries as an image has boxes, at least.
    assert_eq!(
        (further.recipe.model.num_queries, further.recipe.model.backbone),
        (Some(8), segmenter.model.backbone)
    );
    // What was trained on boxes goes on with its own head.
    wish.model = ModelChoice::Folder(output.join("best"));
    let again = suggest(&wish).unwrap();
    assert!(!again.reasons.iter().any(|reason| reason.starts_with("a new head")), "{:?}", again.reasons);
}
