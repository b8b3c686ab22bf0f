//! What did csi-sanity find? Reads the JSON report that its `--ginkgo.json-report` writes.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What became of each spec.
#[derive(Debug)]
pub(crate) struct Report {
    /// Names of the specs that passed.
    pub(crate) passed: Vec<String>,
    /// Name and message of each spec that failed, panicked, was interrupted or ran out of time.
    pub(crate) failed: BTreeMap<String, String>,
    /// Name and message of each spec that did not run; the ones that upstream leaves pending say `pending`.
    pub(crate) skipped: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
}

impl Report {
    /// Reads a report; an unknown state counts as a failure.
    pub(crate) fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let suites: Vec<Suite> = serde_json::from_str(json)?;
        let mut report = Self { passed: Vec::new(), failed: BTreeMap::new(), skipped: BTreeMap::new() };
        for spec in suites.into_iter().flat_map(|suite| suite.spec_reports) {
            report.add(spec);
        }
        Ok(report)
    }

    fn add(&mut self, spec: Spec) {
        let name = spec.name();
        let message = spec.failure.map(|failure| failure.message);
        match spec.state.as_str() {
            // A hook of the whole suite is no spec; it is told only when it fails.
            "passed" if spec.leaf_node_type != "It" => {}
            "passed" => self.passed.push(name),
            "skipped" | "pending" => {
                self.skipped.insert(name, message.unwrap_or(spec.state));
            }
            _ => {
                self.failed.insert(name, message.unwrap_or(spec.state));
            }
        }
    }

    /// How many specs the report knows.
    pub(crate) fn total(&self) -> usize {
        self.passed.len() + self.failed.len() + self.skipped.len()
    }
}

impl Spec {
    /// The texts of the containers and of the spec, in one line.
    fn name(&self) -> String {
        let mut words: Vec<&str> =
            self.container_hierarchy_texts.iter().flatten().map(String::as_str).collect();
        words.push(if self.leaf_node_text.is_empty() { &self.leaf_node_type } else { &self.leaf_node_text });
        words.join(" ")
    }
}
