//! Errors as a user of the command reads them.

use autofocusformer::Error as PipelineError;
use autofocusformer::vision::VisionError;
use autofocusformer::weights::WeightsError;

/// An error with its causes, each told once, and what to do about it on the command line.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let told = cause.to_string();
        if !text.contains(&told) {
            text += if text.is_empty() { "" } else { ": " };
            text += &told;
        }
        // These say what the system said in words of their own.
        let is_whole = matches!(vision(cause), Some(VisionError::Read { .. } | VisionError::Write { .. }));
        if is_whole {
            break;
        }
    }
    match error.chain().find_map(hint) {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

/// What to do on the command line about an error of the libraries, which know no command line.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(PipelineError::WrongArchitecture { expected, .. }) = cause.downcast_ref() {
        return Some(format!("give --model the folder of a {expected}"));
    }
    if let Some(VisionError::TooLarge { found, .. }) = vision(cause) {
        // Not of one that would be resized to too many pixels.
        return found.starts_with("an image of").then(|| "or raise --max-pixels".to_owned());
    }
    let weights = match cause.downcast_ref() {
        Some(PipelineError::Weights(error)) => error,
        _ => cause.downcast_ref()?,
    };
    if let WeightsError::NotFetched { name, .. } = weights {
        return Some(format!("`aff pull {name}` downloads it"));
    }
    let hint = match weights {
        WeightsError::NoConfiguration { .. } => "give it with --preset NAME or --config FILE.yaml",
        WeightsError::AlreadyConverted { .. } => "--force replaces it",
        WeightsError::NotAModel { .. } => "`aff convert` makes a model folder of a checkpoint",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The error about an image that a cause is, by itself or as one of the pipeline.
fn vision<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a VisionError> {
    match cause.downcast_ref() {
        Some(PipelineError::Vision(error)) => Some(error),
        _ => cause.downcast_ref(),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn causes_are_told_once() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let twice = WeightsError::Io { path: "a".into(), action: "read it", source: missing() };
        assert_eq!(error_text(&twice.into()), "a: cannot read it: entity not found");
        let nested = Err::<(), _>(missing()).context("no recipe").unwrap_err();
        assert_eq!(error_text(&nested), "no recipe: entity not found");
        let own_words = VisionError::Read {
            path: "b".into(),
            reason: "there is no such file".to_owned(),
            source: Some(missing()),
        };
        assert_eq!(error_text(&own_words.into()), "cannot read \"b\": there is no such file");
    }

    #[test]
    fn hints_are_added_by_the_command() {
        let error =
            PipelineError::WrongArchitecture { path: "m".into(), expected: "segmenter", found: "classifier" };
        assert_eq!(
            error_text(&error.into()),
            "m: the model is a classifier, not a segmenter; give --model the folder of a segmenter"
        );
        let error =
            PipelineError::Weights(WeightsError::AlreadyConverted { path: "m".into(), file: "config.json" });
        assert_eq!(error_text(&error.into()), "m: already holds config.json; --force replaces it");
    }
}
