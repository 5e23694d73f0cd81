//! Class names in a list that is separated by commas, some of which have commas of their own.

/// The names in a list. A part that is no class by itself may be the beginning of one with commas, such as ADE20K's
/// `road, route`: the longest such name counts.
pub(super) fn split(list: &str, labels: &[String]) -> Vec<String> {
    let parts: Vec<&str> = list.split(',').map(str::trim).collect();
    let is_label = |name: &str| labels.iter().any(|label| normalised(label) == normalised(name));
    let (mut names, mut at) = (Vec::new(), 0);
    while at < parts.len() {
        let longest = (at + 1..=parts.len()).rev().find(|&end| is_label(&parts[at..end].join(",")));
        let end = longest.unwrap_or(at + 1);
        let name = parts[at..end].join(",");
        let known = labels.iter().find(|label| normalised(label) == normalised(&name));
        let name = known.cloned().unwrap_or(name);
        if !name.is_empty() {
            names.push(name);
        }
        at = end;
    }
    names
}

/// A name without spaces around its commas and in small letters.
fn normalised(name: &str) -> String {
    let parts: Vec<&str> = name.split(',').map(str::trim).collect();
    parts.join(",").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_commas_in_names_are_understood() {
        let labels = ["wall", "road, route", "window ", "bed", "sidewalk, pavement"].map(str::to_owned);
        let split = |list| split(list, &labels);
        assert_eq!(split("wall, bed"), ["wall", "bed"]);
        assert_eq!(split("Road,route , window"), ["road, route", "window "]);
        assert_eq!(split("sidewalk, pavement"), ["sidewalk, pavement"]);
        assert_eq!(split("road, wall"), ["road", "wall"]);
        assert_eq!(split(" ,, "), Vec::<String>::new());
        assert_eq!(split("wall,"), ["wall"]);
    }
}
