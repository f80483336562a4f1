//! What is wrong with a configuration, in lines for people.

use std::fmt;

/// One thing to fix. Its text is a single line without control characters and without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// A problem in these words. Control characters are escaped: what came from outside must not forge lines.
    pub fn new(text: impl AsRef<str>) -> Self {
        let mut line = String::with_capacity(text.as_ref().len());
        for c in text.as_ref().chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        Self(line)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        debug_assert!(!problems.is_empty(), "a failure has a reason");
        Self(problems)
    }

    /// The problems, in the order of their discovery.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Problems {
    /// One line per problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// `candidates`' nearest to `name`, if one is near enough to be what was meant.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, best) =
        candidates.map(|known| (strsim::damerau_levenshtein(name, known), known)).min_by_key(|(d, _)| *d)?;
    (distance <= (name.chars().count() / 3).max(2)).then_some(best)
}
