//! What a user means by the name of a model.

use std::path::{Component, Path};

use super::names::RepoId;
use crate::WeightsError;

/// What the name of a model stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelName<'a> {
    /// A folder, or a file in it.
    Local(&'a Path),
    /// `organisation/name` on the hub.
    Hub(&'a str),
}

impl<'a> ModelName<'a> {
    /// What a name stands for. What is there is local; what only looks like a path, or begins with a folder that is there, is a mistake
    /// that no hub needs to be asked about.
    ///
    /// # Errors
    /// [`WeightsError::NotAModel`] if there is nothing of this name, and no hub could have it.
    ///
    /// ```
    /// use aff_weights::ModelName;
    /// # use std::path::Path;
    ///
    /// assert!(matches!(ModelName::of(Path::new("src")), Ok(ModelName::Local(_))));
    /// assert!(matches!(ModelName::of(Path::new("organisation/name")), Ok(ModelName::Hub(_))));
    /// // A folder `src` is here.
    /// assert!(ModelName::of(Path::new("src/typo")).is_err());
    /// assert!(ModelName::of(Path::new("./typo")).is_err());
    /// ```
    pub fn of(model: &'a Path) -> Result<Self, WeightsError> {
        if model.exists() {
            return Ok(Self::Local(model));
        }
        let refuse = |problem: String| WeightsError::NotAModel { path: model.to_path_buf(), problem };
        let hub_id = model.to_str().filter(|id| id.contains('/') && RepoId::parse(id).is_some());
        let Some(id) = hub_id.filter(|id| !id.ends_with(".safetensors")) else {
            return Err(refuse(
                "there is no such folder, and it is not the name of a model on the hub (organisation/name)"
                    .to_owned(),
            ));
        };
        let first = model.components().next().map(Component::as_os_str).unwrap_or_default();
        if Path::new(first).exists() {
            let first = first.display();
            return Err(refuse(format!(
                "there is no such folder in {first}; for a model of this name on the hub, change to a folder without {first}"
            )));
        }
        Ok(Self::Hub(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_paths_go_to_the_hub() {
        let of = |text: &'static str| ModelName::of(Path::new(text));
        // The tests run in the folder of this crate.
        assert!(matches!(of("src"), Ok(ModelName::Local(_))));
        assert!(matches!(of("nobody/aff-mini"), Ok(ModelName::Hub("nobody/aff-mini"))));
        for mistake in [
            "src/typo",
            "tests/typo",
            "./typo",
            "../typo/x",
            "/no/such",
            "~/model",
            "typo",
            "a/b/c",
            "typo/",
            "C:\\models\\x",
            "models/x.safetensors",
            "",
        ] {
            let error = of(mistake).unwrap_err().to_string();
            assert!(error.contains("there is no such folder"), "{mistake}: {error}");
        }
    }
}
