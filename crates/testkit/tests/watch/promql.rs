//! As much of PromQL as it takes to say which metrics an expression reads, and with which labels.

/// Every function and operator that is used. Whatever is not one of them is a metric, so that a metric that is spelled
/// wrong cannot be taken for something else.
const FUNCTIONS: [&str; 13] = [
    "avg",
    "changes",
    "count",
    "histogram_quantile",
    "increase",
    "label_values",
    "max",
    "max_over_time",
    "min",
    "rate",
    "round",
    "sum",
    "vector",
];
const OPERATORS: [&str; 4] = ["and", "or", "unless", "bool"];
/// What a list of labels follows.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// A metric that an expression reads, and what it asks of its labels: `label`, operator, `value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) matchers: Vec<(String, String, String)>,
}

/// All selectors of an expression.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let mut selectors: Vec<Selector> = vec![];
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() || first == '_' || first == ':' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after.trim_start();
            let is_function = FUNCTIONS.contains(&word) && rest.starts_with(['(', 'b']);
            if GROUPINGS.contains(&word) && rest.starts_with('(') {
                rest = rest.split_once(')').unwrap_or_else(|| panic!("no ) in {expression}")).1;
            } else if !(is_function || OPERATORS.contains(&word) || GROUPINGS.contains(&word)) {
                selectors.push(Selector { metric: word.to_owned(), matchers: vec![] });
            }
        } else if first == '{' {
            let (matchers, after) = braces(rest);
            selectors.last_mut().unwrap_or_else(|| panic!("{{ without a metric: {expression}")).matchers =
                matchers;
            rest = after;
        } else if first == '[' {
            rest = rest.split_once(']').unwrap_or_else(|| panic!("no ] in {expression}")).1;
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            rest = &rest[end.unwrap_or(rest.len())..];
        } else {
            rest = &rest[first.len_utf8()..];
        }
        rest = rest.trim_start();
    }
    selectors
}

/// `{label="value", …}`, and what follows it.
fn braces(text: &str) -> (Vec<(String, String, String)>, &str) {
    let mut matchers = vec![];
    let mut rest = &text[1..];
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if let Some(after) = rest.strip_prefix('}') {
            return (matchers, after);
        }
        let (before, after) = rest.split_once('"').unwrap_or_else(|| panic!("no value in {text}"));
        let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("no end of a value in {text}"));
        let label = before.trim_end_matches(['=', '~', '!']);
        matchers.push((label.to_owned(), before[label.len()..].to_owned(), value.to_owned()));
        rest = after;
    }
}

impl Selector {
    /// Selectors of one label and one value each, which all have to have a series: what this one names.
    pub(crate) fn named(&self) -> Vec<String> {
        let mut named = vec![self.metric.clone()];
        for (label, operator, value) in &self.matchers {
            let is_word = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || "_.+".contains(c));
            let values: Vec<&str> = match operator.as_str() {
                "=" => vec![value],
                "=~" => value.split('|').collect(),
                _ => vec![],
            };
            let words = values.iter().filter(|value| is_word(value) && !value.contains(".*"));
            named.extend(words.map(|value| format!("{}{{{label}=\"{value}\"}}", self.metric)));
        }
        named
    }
}

#[test]
fn an_expression_names_what_it_reads() {
    let expression = r#"1 - sum by (namespace, job) (rate(a:b_c{path="bus", le="0.1", job=~".*x|y"}[5m]))
        / on (job) group_right () max(d) or vector(0) > 0.5 and e{f=~"g|h", i!="j"} > 1e3"#;
    let named: Vec<String> = selectors(expression).iter().flat_map(Selector::named).collect();
    let expected = [
        "a:b_c",
        "a:b_c{path=\"bus\"}",
        "a:b_c{le=\"0.1\"}",
        "a:b_c{job=\"y\"}",
        "d",
        "e",
        "e{f=\"g\"}",
        "e{f=\"h\"}",
    ];
    assert_eq!(named, expected);
    assert_eq!(selectors("sum(rate(misspelt (x)))")[0].metric, "misspelt");
}
