//! The list of cases.

mod limits;

use crate::case::Case;

/// Every case that this checkout can run, in the order of the report.
#[must_use]
pub fn all() -> Vec<Case> {
    limits::cases()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn names_are_unique() {
        let cases = super::all();
        let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len(), "two cases of one name");
    }
}
