//! What a run says: Markdown.

use std::fmt;

/// One table with what it proves.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Above the table.
    pub(crate) title: String,
    /// Below the title: how it was measured.
    pub(crate) note: String,
    /// The names of the columns.
    pub(crate) header: Vec<String>,
    /// As many cells as names.
    pub(crate) rows: Vec<Vec<String>>,
    /// For the summary.
    pub(crate) verdicts: Vec<Verdict>,
    /// What went wrong while measuring; such numbers are not to be quoted.
    pub(crate) faults: Vec<String>,
}

/// A goal and what was measured.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// What is limited.
    pub(crate) what: String,
    /// The limit, in words.
    pub(crate) goal: String,
    /// The number, with its unit.
    pub(crate) measured: String,
    /// Whether it is within the limit.
    pub(crate) met: bool,
}

impl Section {
    /// Without rows.
    pub(crate) fn new(title: &str, note: String, header: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            note,
            header: header.iter().map(|name| (*name).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// Notes what went wrong in `step`, if anything did.
    pub(crate) fn fault(&mut self, step: &str, fault: Option<String>) {
        self.faults
            .extend(fault.map(|fault| format!("{step}: {fault}")));
    }
}

/// The tables.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}\n", self.title, self.note)?;
        table(f, &self.header, &self.rows)?;
        for fault in &self.faults {
            writeln!(f, "\n**Fault:** {fault}")?;
        }
        writeln!(f)
    }
}

/// The goals of all sections. A run that is too small to judge by says what it measured, and not whether that is enough.
pub(crate) fn summary(sections: &[Section], judged: bool) -> String {
    struct Summary<'s>(&'s [Section], bool);
    impl<'s> fmt::Display for Summary<'s> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let header = ["what", "goal", "measured", ""].map(String::from);
            let of = |section: &'s Section| std::iter::repeat(section).zip(&section.verdicts);
            let rows: Vec<Vec<String>> = self
                .0
                .iter()
                .flat_map(of)
                .map(|(section, verdict)| row(section, verdict, self.1))
                .collect();
            writeln!(f, "## Against the goals\n")?;
            table(f, &header, &rows)
        }
    }
    fn row(section: &Section, verdict: &Verdict, judged: bool) -> Vec<String> {
        let word = match (section.faults.is_empty(), judged, verdict.met) {
            (false, ..) => "not valid: see the fault",
            (true, false, _) => "too small a run to say",
            (true, true, true) => "met",
            (true, true, false) => "**missed**",
        };
        vec![
            verdict.what.clone(),
            verdict.goal.clone(),
            verdict.measured.clone(),
            word.into(),
        ]
    }
    Summary(sections, judged).to_string()
}

fn table(f: &mut fmt::Formatter<'_>, header: &[String], rows: &[Vec<String>]) -> fmt::Result {
    writeln!(f, "| {} |", header.join(" | "))?;
    writeln!(f, "|---|{}", "---:|".repeat(header.len().saturating_sub(1)))?;
    for row in rows {
        writeln!(f, "| {} |", row.join(" | "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_shows_its_faults() {
        let mut section = Section::new("T", "n".into(), &["a", "b"]);
        section.rows.push(vec!["1".into(), "2".into()]);
        let verdict = |met| Verdict {
            what: "w".into(),
            goal: "1".into(),
            measured: "2".into(),
            met,
        };
        section.verdicts = vec![verdict(true), verdict(false)];
        let sound = summary(std::slice::from_ref(&section), true);
        assert!(
            sound.ends_with("| w | 1 | 2 | met |\n| w | 1 | 2 | **missed** |\n"),
            "{sound}"
        );
        let small = summary(std::slice::from_ref(&section), false);
        assert_eq!(small.matches("too small").count(), 2, "{small}");
        section.fault("x", None);
        section.fault("y", Some("bad".into()));
        assert_eq!(
            section.to_string(),
            "## T\n\nn\n\n| a | b |\n|---|---:|\n| 1 | 2 |\n\n**Fault:** y: bad\n\n"
        );
        assert_eq!(summary(&[section], true).matches("not valid").count(), 2);
    }
}
