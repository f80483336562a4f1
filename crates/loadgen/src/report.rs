//! The results: a table for people, a file for programs.

use std::fmt::Write;

use serde::Serialize;

use crate::machine::Circumstances;
use crate::stats::Spread;

/// All results of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this format.
    pub schema: u32,
    /// Whether it was a short run, whose figures are rough.
    pub quick: bool,
    /// Where and when.
    pub circumstances: Circumstances,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// One node, beside the bare relay.
    pub rows: Vec<Row>,
    /// Several nodes, beside as many bare relays over Redis.
    pub cluster: Vec<Row>,
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name, stable across runs.
    pub id: &'static str,
    /// What it is.
    pub metric: &'static str,
    /// Unit of the figures.
    pub unit: &'static str,
    /// The product's.
    pub product: Spread,
    /// The bare relay's, where it has this at all.
    pub bare: Option<Spread>,
    /// Product through bare relay, of the runs that followed each other.
    pub ratio: Option<Spread>,
    /// What we want.
    pub goal: Option<Goal>,
    /// Whether the median has it.
    pub met: Option<bool>,
}

/// An upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Of the product's figure, in the row's unit.
    Most(f64),
    /// Of the ratio.
    Ratio(f64),
}

impl Row {
    /// A row of at least one run; `None` without any.
    pub fn new(
        (id, metric, unit): (&'static str, &'static str, &'static str),
        product: Vec<f64>,
        bare: Vec<f64>,
        goal: Option<Goal>,
    ) -> Option<Self> {
        let ratios =
            product.iter().zip(&bare).filter(|(_, bare)| **bare > 0.0).map(|(product, bare)| product / bare);
        let ratio = Spread::of(ratios.collect());
        let product = Spread::of(product)?;
        let met = match goal {
            Some(Goal::Most(most)) => Some(product.median <= most),
            Some(Goal::Ratio(most)) => ratio.as_ref().map(|ratio| ratio.median <= most),
            None => None,
        };
        Some(Self { id, metric, unit, product, bare: Spread::of(bare), ratio, goal, met })
    }
}

impl Report {
    /// The tables, in Markdown that reads well as it is.
    pub fn tables(&self) -> String {
        let parts = [
            ("One node", "bare relay", &self.rows),
            ("Between nodes, over Redis and PostgreSQL", "bare relays over Redis", &self.cluster),
        ];
        let parts = parts.into_iter().filter(|(_, _, rows)| !rows.is_empty());
        let texts = parts.map(|(title, beside, rows)| format!("## {title}\n\n{}", table(rows, beside)));
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The whole report, in Markdown.
    pub fn markdown(&self) -> String {
        let Circumstances { date, revision, cpu, cores, memory_mib, kernel, rustc, packages, load_before } =
            &self.circumstances;
        let packages: Vec<_> = packages.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let kind = if self.quick { "Quick run: the figures are rough." } else { "Full run." };
        format!(
            "# Benchmark\n\n{kind} Median, and in parentheses the smallest and the largest of all runs.\n\
             What is measured and how: [docs/performance.md](../../docs/performance.md).\n\n\
             - {date}, revision {revision}, {:.0} s\n- {cpu}, {cores} cores, {memory_mib} MiB; Linux {kernel}; load average before the run {load_before}\n\
             - {rustc}; {}\n\n{}",
            self.seconds,
            packages.join(", "),
            self.tables(),
        )
    }
}

fn table(rows: &[Row], beside: &str) -> String {
    let mut lines = vec![["metric", "unit", "product", beside, "ratio", "goal"].map(str::to_owned)];
    for row in rows {
        let goal = match row.goal {
            Some(Goal::Most(most)) => format!("≤ {most}"),
            Some(Goal::Ratio(most)) => format!("≤ {most}×"),
            None => String::new(),
        };
        let verdict = match row.met {
            Some(true) => " met",
            Some(false) => " **missed**",
            None => "",
        };
        lines.push([
            row.metric.to_owned(),
            row.unit.to_owned(),
            spread(Some(&row.product)),
            spread(row.bare.as_ref()),
            row.ratio.as_ref().map(|ratio| format!("{}×", spread(Some(ratio)))).unwrap_or_default(),
            goal + verdict,
        ]);
    }
    aligned(&lines)
}

/// A median with its spread, or nothing.
fn spread(spread: Option<&Spread>) -> String {
    let Some(Spread { median, min, max, runs }) = spread else { return String::new() };
    if runs.len() == 1 {
        short(*median)
    } else {
        format!("{} ({}–{})", short(*median), short(*min), short(*max))
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn aligned(lines: &[[String; 6]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            // Writing into a string cannot fail.
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: (&str, &str, &str) = ("id", "a metric", "µs");

    #[test]
    fn ratios_are_of_neighbouring_runs() {
        let row =
            Row::new(NAME, vec![10.0, 30.0, 12.0], vec![10.0, 20.0, 10.0], Some(Goal::Ratio(1.2))).unwrap();
        assert_eq!(row.ratio.as_ref().unwrap().runs, [1.0, 1.5, 1.2]);
        assert_eq!((row.product.median, row.met), (12.0, Some(true)));
        let alone = Row::new(NAME, vec![9.0], vec![], Some(Goal::Most(8.0))).unwrap();
        assert_eq!((alone.ratio, alone.bare, alone.met), (None, None, Some(false)));
        assert_eq!(Row::new(NAME, vec![], vec![1.0], None), None);
    }

    #[test]
    fn the_table_marks_what_is_missed() {
        let rows = [vec![1.0, 2.0, 3.0], vec![9.0]]
            .map(|product| Row::new(NAME, product, vec![2.0], Some(Goal::Most(8.0))).unwrap());
        let circumstances = Circumstances::now();
        let mut report = Report {
            schema: 2,
            quick: true,
            circumstances,
            seconds: 1.0,
            rows: rows.to_vec(),
            cluster: vec![],
        };
        let table = report.tables();
        assert_eq!(table.lines().count(), 6);
        assert!(table.contains("2.00 (1.00–3.00)") && table.contains("≤ 8 met"), "{table}");
        assert!(table.contains("≤ 8 **missed**"), "{table}");
        assert!(report.markdown().contains("Quick run"));
        report.cluster = report.rows.split_off(1);
        assert!(report.tables().contains("| bare relays over Redis |"), "{}", report.tables());
    }
}
